#include "hypervisor/boot/memory.hpp"

#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/mm/descriptor.hpp"
#include "hypervisor/mm/el2_map.hpp"
#include "hypervisor/mm/pool.hpp"

extern "C" {
extern char image_start[], text_end[], rodata_end[], image_end[], boot_stack_guard[];
std::uint64_t early_tables(std::uint64_t tree);
// Loaded by head.S and by secondaries: MAIR_EL2, TCR_EL2, SCTLR_EL2.
std::uint64_t early_mmu_values[3];
void enable_mmu(std::uint64_t ttbr0);
}

namespace proa::hv {
namespace {

PagePool the_pool;
El2Map final_map;

std::uint64_t address_of(const char* symbol) {
    return reinterpret_cast<std::uint64_t>(symbol);
}

Range image_range() {
    return {address_of(image_start), address_of(image_end) - address_of(image_start)};
}

constexpr std::uint64_t kStackOrder = 3;  // 32 KiB: guard page, 28 KiB stack

}  // namespace

PagePool& pool() {
    return the_pool;
}

// The pool holds stage-2 tables above all: a fully split guest costs 1/512 of its RAM. 1/64 of the host's RAM, at
// least 16 MiB, at the top of the highest bank that keeps clear of the boot modules.
MemoryPlan plan_memory(const BootInfo& info) {
    MemoryPlan plan;
    plan.image = image_range();
    std::uint64_t total = 0;
    for (unsigned i = 0; i < info.ram_banks; ++i) total += info.ram[i].size;
    const std::uint64_t want = (total / 64 < 16 * kChunk / 2 ? 16ull << 20 : total / 64) & ~(kChunk - 1);
    for (unsigned i = info.ram_banks; i-- > 0;) {
        const Range& bank = info.ram[i];
        for (std::uint64_t top = bank.end() & ~(kChunk - 1); top >= bank.base + want + kChunk; top -= kChunk) {
            const Range both{top - want - kChunk, want + kChunk};
            if (both.overlaps(plan.image) || both.overlaps(info.kernel) || both.overlaps(info.ramdisk) ||
                both.overlaps(info.tree))
                continue;
            plan.pool = {both.base + kChunk, want};
            plan.tree = {both.base, kChunk};
            return plan;
        }
    }
    panic("no room for {} MiB of proa-hv's own memory", want >> 20);
}

void init_pool(const MemoryPlan& plan) {
    the_pool.init(reinterpret_cast<void*>(plan.pool.base), Pa(plan.pool.base), plan.pool.size);
}

void build_el2_map(const BootInfo& info, const MemoryPlan& plan) {
    final_map.init();
    final_map.map(Pa(plan.image.base), address_of(text_end) - plan.image.base, El2Memory::Code);
    final_map.map(Pa(address_of(text_end)), address_of(rodata_end) - address_of(text_end), El2Memory::ReadOnly);
    final_map.map(Pa(address_of(rodata_end)), plan.image.end() - address_of(rodata_end), El2Memory::Data);
    for (unsigned i = 0; i < info.ram_banks; ++i) {
        const Range& bank = info.ram[i];
        if (!bank.overlaps(plan.image)) {
            final_map.map(Pa(bank.base), bank.size, El2Memory::Data);
            continue;
        }
        final_map.map(Pa(bank.base), plan.image.base - bank.base, El2Memory::Data);
        final_map.map(Pa(plan.image.end()), bank.end() - plan.image.end(), El2Memory::Data);
    }
    const auto device = [](std::uint64_t base, std::uint64_t size) {
        const Pa first = Pa(base).floor(kPage);
        final_map.map(first, (Pa(base + size + kPage - 1).floor(kPage)) - first, El2Memory::Device);
    };
    device(info.gic.gicd, info.gic.gicd_size);
    device(info.gic.gicr, info.gic.gicr_size);
    if (info.uart != 0) device(info.uart, kPage);
    final_map.unmap_page(Pa(address_of(boot_stack_guard)));
    early_mmu_values[2] = el2_sctlr();
    dsb_sy();
    enable_mmu(final_map.ttbr0());
}

std::uint64_t el2_ttbr0() {
    return final_map.ttbr0();
}
std::uint64_t el2_sctlr() {
    return sctlr2::kMmuOn;
}

std::uint64_t alloc_stack_top() {
    void* p = pool().alloc(kStackOrder);
    if (p == nullptr) panic("no memory for a CPU's stack");
    final_map.unmap_page(pool().pa(p));
    return reinterpret_cast<std::uint64_t>(p) + (kPage << kStackOrder);
}

}  // namespace proa::hv

// The first map, made with the MMU off: 1 GiB blocks for the image and the device tree (write-back) and for the rest of
// the first 4 GiB as device memory, so that an early panic reaches the UART. Replaced by build_el2_map.
extern "C" std::uint64_t early_tables(std::uint64_t tree) {
    using namespace proa::hv;
    alignas(4096) static std::uint64_t level0[512], level1[512];
    const std::uint64_t normal = pte::AF | pte::SH_INNER | 1ull << 6 | pte::Valid;
    const std::uint64_t device = pte::AF | 1ull << 6 | 1ull << 2 | 1ull << 54 | pte::Valid;
    for (std::uint64_t g = 0; g < 4; ++g) level1[g] = g * kGig | device;
    const std::uint64_t at[] = {address_of(image_start), address_of(image_end), tree, tree + kChunk};
    for (const std::uint64_t a : at) level1[a / kGig % 512] = (a / kGig * kGig) | normal;
    level0[0] = reinterpret_cast<std::uint64_t>(level1) | pte::Valid | pte::Table;
    early_mmu_values[0] = el2_mair();
    early_mmu_values[1] = el2_tcr();
    early_mmu_values[2] = el2_sctlr() & ~sctlr2::WXN;
    return reinterpret_cast<std::uint64_t>(level0);
}
