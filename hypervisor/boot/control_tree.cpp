// The control domain's device tree: the firmware's own, edited with libfdt.
#include <libfdt.h>

#include "hypervisor/boot/device_tree.hpp"
#include "hypervisor/lib/log.hpp"

namespace proa::hv {
namespace {

void must(int result, const char* what) {
    if (result < 0) panic("control domain's device tree: {}: {}", what, fdt_strerror(result));
}

// A property built from 32-bit cells.
class CellList {
  public:
    void cell(std::uint32_t v) {
        if (count_ == kMax) panic("control domain's device tree: property too long");
        cells_[count_++] = cpu_to_fdt32(v);
    }
    void wide(std::uint64_t v) {
        cell(static_cast<std::uint32_t>(v >> 32));
        cell(static_cast<std::uint32_t>(v));
    }
    void put(void* t, int node, const char* name) const {
        must(fdt_setprop(t, node, name, cells_, static_cast<int>(count_ * 4)), name);
    }

  private:
    static constexpr unsigned kMax = 320;
    fdt32_t cells_[kMax];
    unsigned count_ = 0;
};

int child(void* t, int parent, const char* name) {
    const int n = fdt_subnode_offset(t, parent, name);
    return n >= 0 ? n : fdt_add_subnode(t, parent, name);
}

void remove_compatible(void* t, const char* compatible) {
    for (int n; (n = fdt_node_offset_by_compatible(t, -1, compatible)) >= 0;)
        must(fdt_del_node(t, n), compatible);
}

void edit_chosen(void* t, const BootInfo& info) {
    remove_compatible(t, "multiboot,kernel");
    remove_compatible(t, "multiboot,ramdisk");
    const int n = child(t, 0, "chosen");
    must(n, "chosen");
    must(fdt_setprop_string(t, n, "bootargs", info.kernel_args), "bootargs");
    if (info.ramdisk.size != 0) {
        must(fdt_setprop_u64(t, n, "linux,initrd-start", info.ramdisk.base), "initrd");
        must(fdt_setprop_u64(t, n, "linux,initrd-end", info.ramdisk.end()), "initrd");
    }
}

void reserve(void* t, std::span<const Range> ranges) {
    const int parent = child(t, 0, "reserved-memory");
    must(parent, "reserved-memory");
    must(fdt_setprop_u32(t, parent, "#address-cells", 2), "reserved-memory");
    must(fdt_setprop_u32(t, parent, "#size-cells", 2), "reserved-memory");
    must(fdt_setprop(t, parent, "ranges", nullptr, 0), "reserved-memory");
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        char name[] = "proa-hv@0";
        name[8] = static_cast<char>('0' + i);
        const int n = fdt_add_subnode(t, fdt_subnode_offset(t, 0, "reserved-memory"), name);
        must(n, name);
        CellList reg;
        reg.wide(ranges[i].base);
        reg.wide(ranges[i].size);
        reg.put(t, n, "reg");
        must(fdt_setprop(t, n, "no-map", nullptr, 0), "no-map");
    }
}

// Without an ITS the control domain's PCI devices fall back to INTx, which needs no LPI support at EL2.
void remove_its(void* t) {
    remove_compatible(t, "arm,gic-v3-its");
    for (int n = fdt_next_node(t, -1, nullptr); n >= 0; n = fdt_next_node(t, n, nullptr)) {
        if (fdt_getprop(t, n, "msi-map", nullptr) != nullptr) must(fdt_delprop(t, n, "msi-map"), "msi-map");
        if (fdt_getprop(t, n, "msi-parent", nullptr) != nullptr)
            must(fdt_delprop(t, n, "msi-parent"), "msi-parent");
    }
}

void add_bridge(void* t, const ControlTreePlan& p) {
    const int gic = fdt_node_offset_by_compatible(t, -1, "arm,gic-v3");
    const std::uint32_t phandle = fdt_get_phandle(t, gic);
    auto* cells = static_cast<const fdt32_t*>(fdt_getprop(t, gic, "#address-cells", nullptr));
    const unsigned gic_address_cells = cells != nullptr ? fdt32_to_cpu(*cells) : 0;
    const int n = fdt_add_subnode(t, 0, "pcie@proa");
    must(n, "control bridge");
    must(fdt_setprop_string(t, n, "compatible", "pci-host-ecam-generic"), "control bridge");
    must(fdt_setprop_string(t, n, "device_type", "pci"), "control bridge");
    must(fdt_setprop_u32(t, n, "#address-cells", 3), "control bridge");
    must(fdt_setprop_u32(t, n, "#size-cells", 2), "control bridge");
    must(fdt_setprop_u32(t, n, "#interrupt-cells", 1), "control bridge");
    must(fdt_setprop_u32(t, n, "linux,pci-domain", 1), "control bridge");
    must(fdt_setprop(t, n, "dma-coherent", nullptr, 0), "control bridge");
    CellList reg, buses, ranges, mask, map;
    reg.wide(p.ecam);
    reg.wide(p.ecam_size);
    reg.put(t, n, "reg");
    buses.cell(0);
    buses.cell(0);
    buses.put(t, n, "bus-range");
    ranges.cell(0x0200'0000);  // 32-bit, non-prefetchable memory (IEEE 1275 PCI binding)
    ranges.wide(p.window_pci);
    ranges.wide(p.window);
    ranges.wide(p.window_size);
    ranges.put(t, n, "ranges");
    mask.cell(0xf800);  // device number, any function
    mask.cell(0);
    mask.cell(0);
    mask.cell(7);
    mask.put(t, n, "interrupt-map-mask");
    for (unsigned f = 0; f < p.functions; ++f) {
        map.cell(f << 11);
        map.cell(0);
        map.cell(0);
        map.cell(1);  // INTA
        map.cell(phandle);
        for (unsigned i = 0; i < gic_address_cells; ++i) map.cell(0);
        map.cell(0);  // SPI
        map.cell(p.first_intid + f - 32);
        map.cell(4);  // level, high
    }
    map.put(t, n, "interrupt-map");
}

}  // namespace

void write_control_tree(const ControlTreePlan& plan, std::span<std::uint8_t> to) {
    auto* from = reinterpret_cast<const void*>(plan.info->tree.base);
    void* t = to.data();
    must(fdt_open_into(from, t, static_cast<int>(to.size())), "copy");
    edit_chosen(t, *plan.info);
    reserve(t, plan.reserved);
    remove_its(t);
    add_bridge(t, plan);
    must(fdt_pack(t), "pack");
}

}  // namespace proa::hv
