// Builds the control domain: the identity map, its interrupts, its device tree, its first vCPU.
#pragma once
#include "hypervisor/boot/memory.hpp"

namespace proa::hv {

void start_control_domain(const BootInfo& info, const MemoryPlan& memory);

}  // namespace proa::hv
