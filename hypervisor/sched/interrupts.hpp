// Physical interrupts, all of which proa-hv takes at EL2, and where they go.
#pragma once
#include "hypervisor/arch/pcpu.hpp"

namespace proa::hv {

void timer_fired(Pcpu& self);  // timers.cpp: CNTHP went off

}  // namespace proa::hv
