// Power calls of a domain (PSCI), from the HVC and SMC traps.
#pragma once
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

void power_call(Vcpu& v);          // arguments and result in v's x0..x3; the PC is past the instruction
void wait_for_interrupt(Vcpu& v);  // WFI
void set_firmware_conduit(bool hvc);

}  // namespace proa::hv
