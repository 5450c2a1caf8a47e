// Physical interrupts, all of which proa-hv takes at EL2, and where they go.
#pragma once
#include "hypervisor/arch/pcpu.hpp"
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

void route_devices_to(GicUnit& unit);  // whose the physical SPIs are
void timer_fired(Pcpu& self);          // timers.cpp: CNTHP went off

}  // namespace proa::hv
