// The world switch: a vCPU's registers into and out of this pCPU.
#pragma once
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

void load_world(Vcpu& v, Pcpu& self);  // all but list registers
void save_world(Vcpu& v, Pcpu& self);  // after gic_sync
void flush_world(Vcpu& v);             // Vgic -> list registers

}  // namespace proa::hv
