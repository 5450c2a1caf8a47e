#include "hypervisor/boot/device_tree.hpp"

#include <libfdt.h>

#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/lib/log.hpp"

namespace proa::hv {
namespace {

struct Cells {
    int address, size;
};

Cells cells_of_parent(const void* t, int node) {
    const int parent = fdt_parent_offset(t, node);
    return {fdt_address_cells(t, parent), fdt_size_cells(t, parent)};
}

std::uint64_t take(const fdt32_t*& p, int cells) {
    std::uint64_t v = 0;
    for (; cells > 0; --cells) v = v << 32 | fdt32_to_cpu(*p++);
    return v;
}

// Entry `index` of a node's `reg`; false if there is none.
bool reg_entry(const void* t, int node, unsigned index, Range& out) {
    int bytes = 0;
    auto* p = static_cast<const fdt32_t*>(fdt_getprop(t, node, "reg", &bytes));
    const Cells c = cells_of_parent(t, node);
    const int entry = (c.address + c.size) * 4;
    if (p == nullptr || c.address < 1 || c.address > 2 || c.size < 0 || c.size > 2) return false;
    if (bytes < entry * static_cast<int>(index + 1)) return false;
    p += static_cast<int>(index) * (c.address + c.size);
    out.base = take(p, c.address);
    out.size = take(p, c.size);
    return true;
}

bool has_device_type(const void* t, int node, const char* type) {
    auto* p = static_cast<const char*>(fdt_getprop(t, node, "device_type", nullptr));
    return p != nullptr && __builtin_strcmp(p, type) == 0;
}

void read_memory(const void* t, BootInfo& info) {
    for (int n = fdt_next_node(t, -1, nullptr); n >= 0; n = fdt_next_node(t, n, nullptr)) {
        if (!has_device_type(t, n, "memory")) continue;
        Range r;
        for (unsigned i = 0; reg_entry(t, n, i, r); ++i) {
            if (r.size == 0) continue;
            if (info.ram_banks == kMaxBanks) panic("device tree: more than {} memory banks", kMaxBanks);
            info.ram[info.ram_banks++] = r;
        }
    }
    if (info.ram_banks == 0) panic("device tree: no memory node");
}

void read_cpus(const void* t, BootInfo& info) {
    for (int n = fdt_next_node(t, -1, nullptr); n >= 0; n = fdt_next_node(t, n, nullptr)) {
        Range r;
        if (!has_device_type(t, n, "cpu") || !reg_entry(t, n, 0, r)) continue;
        if (info.cpus == kMaxPcpus) {
            log("only the first {} CPUs are used", kMaxPcpus);
            return;
        }
        info.cpu_mpidr[info.cpus++] = r.base & kMpidrAffinity;
    }
    if (info.cpus == 0) panic("device tree: no cpu node");
}

void read_gic(const void* t, BootInfo& info) {
    const int n = fdt_node_offset_by_compatible(t, -1, "arm,gic-v3");
    Range d, r;
    if (n < 0 || !reg_entry(t, n, 0, d) || !reg_entry(t, n, 1, r)) panic("device tree: no arm,gic-v3 node");
    int bytes = 0;
    auto* regions = static_cast<const fdt32_t*>(fdt_getprop(t, n, "#redistributor-regions", &bytes));
    if (regions != nullptr && fdt32_to_cpu(*regions) > 1)
        log("only the first of {} redistributor regions is used", fdt32_to_cpu(*regions));
    info.gic = {d.base, d.size, r.base, r.size};
}

void read_psci(const void* t, BootInfo& info) {
    const int n = fdt_path_offset(t, "/psci");
    auto* method = n < 0 ? nullptr : static_cast<const char*>(fdt_getprop(t, n, "method", nullptr));
    if (method == nullptr) panic("device tree: no /psci node with a method");
    info.psci_hvc = __builtin_strcmp(method, "hvc") == 0;
}

void read_uart(const void* t, BootInfo& info) {
    const int n = fdt_node_offset_by_compatible(t, -1, "arm,pl011");
    Range r;
    if (n >= 0 && reg_entry(t, n, 0, r)) info.uart = r.base;
}

// QEMU's guest-loader writes 64-bit address and size whatever /chosen says of its cells (it says nothing).
bool module_range(const void* t, int node, Range& out) {
    int bytes = 0;
    auto* p = static_cast<const fdt32_t*>(fdt_getprop(t, node, "reg", &bytes));
    if (p == nullptr || bytes != 16) return reg_entry(t, node, 0, out);
    out.base = take(p, 2);
    out.size = take(p, 2);
    return true;
}

void read_modules(const void* t, BootInfo& info) {
    int n = fdt_node_offset_by_compatible(t, -1, "multiboot,kernel");
    if (n < 0 || !module_range(t, n, info.kernel))
        panic("device tree: no multiboot,kernel module under /chosen; load the control domain's kernel there");
    if (auto* args = static_cast<const char*>(fdt_getprop(t, n, "bootargs", nullptr))) info.kernel_args = args;
    n = fdt_node_offset_by_compatible(t, -1, "multiboot,ramdisk");
    if (n >= 0 && !module_range(t, n, info.ramdisk)) panic("device tree: ramdisk module without reg");
}

}  // namespace

BootInfo read_device_tree(std::uint64_t tree) {
    auto* t = reinterpret_cast<const void*>(tree);
    if (const int e = fdt_check_header(t); e != 0) panic("no device tree at {x}: {}", tree, fdt_strerror(e));
    BootInfo info;
    info.tree = {tree, fdt_totalsize(t)};
    read_uart(t, info);
    read_memory(t, info);
    read_cpus(t, info);
    read_gic(t, info);
    read_psci(t, info);
    read_modules(t, info);
    return info;
}

}  // namespace proa::hv
