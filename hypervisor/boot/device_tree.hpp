// What proa-hv learns from the firmware's device tree. Read once, before anything is allocated; a tree that lacks
// what is needed ends in a panic that names it.
#pragma once
#include <cstdint>
#include <span>

#include "hypervisor/arch/gic.hpp"

namespace proa::hv {

inline constexpr unsigned kMaxPcpus = 16, kMaxBanks = 8;

struct Range {
    std::uint64_t base = 0, size = 0;
    std::uint64_t end() const { return base + size; }
    bool contains(std::uint64_t at, std::uint64_t length) const {
        return at >= base && length <= size && at - base <= size - length;
    }
    bool overlaps(const Range& o) const { return base < o.end() && o.base < end(); }
};

struct BootInfo {
    Range ram[kMaxBanks];
    unsigned ram_banks = 0;
    std::uint64_t cpu_mpidr[kMaxPcpus] = {};
    unsigned cpus = 0;
    bool psci_hvc = false;
    GicLayout gic;
    std::uint64_t uart = 0;
    Range tree, kernel, ramdisk;
    const char* kernel_args = "";  // points into the tree
};

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
