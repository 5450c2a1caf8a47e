// What this board has, as the firmware's device tree says it (boot/device_tree.cpp): plain facts for everyone.
#pragma once
#include <cstdint>

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

}  // namespace proa::hv
