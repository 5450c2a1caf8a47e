// What proa-hv learns from the firmware's device tree. Read once, before anything is allocated; a tree that lacks
// what is needed ends in a panic that names it.
#pragma once
#include <cstdint>
#include <span>

#include "hypervisor/arch/board.hpp"

namespace proa::hv {

BootInfo read_device_tree(std::uint64_t tree);

// Writes the control domain's tree into `to`: the firmware's, with the boot modules replaced by linux,initrd-*,
// bootargs set, `reserved` made no-map, ITS nodes removed (their MSIs become INTx), and the control bridge added.
struct ControlTreePlan {
    const BootInfo* info;
    std::span<const Range> reserved;
    std::uint64_t ecam, ecam_size, window, window_pci, window_size;  // bytes; `window_pci` is the PCI address
    std::uint32_t first_intid;                                       // function f's INTx
    unsigned functions;
};
void write_control_tree(const ControlTreePlan& plan, std::span<std::uint8_t> to);

}  // namespace proa::hv
