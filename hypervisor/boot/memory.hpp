// Where things go in physical memory at boot: the early map, proa-hv's pool, EL2's final map.
#pragma once
#include "hypervisor/boot/device_tree.hpp"

namespace proa::hv {

struct MemoryPlan {
    Range image, pool, tree;  // `tree`: 2 MiB of the control domain's RAM for its device tree
};

MemoryPlan plan_memory(const BootInfo& info);
void init_pool(const MemoryPlan& plan);
void build_el2_map(const BootInfo& info, const MemoryPlan& plan);  // and switches this CPU to it
std::uint64_t el2_ttbr0();
std::uint64_t el2_sctlr();

// A CPU's EL2 stack: 16 KiB with an unmapped page below. Only before build_el2_map's map is shared (boot).
std::uint64_t alloc_stack_top();

}  // namespace proa::hv
