// System register accesses that trap (EC 0x18).
#pragma once
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

bool sysreg_trap(Vcpu& v, std::uint64_t esr);  // false: the register does not exist for this vCPU

}  // namespace proa::hv
