#include "hypervisor/mm/el2_map.hpp"

#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/mm/descriptor.hpp"
#include "hypervisor/mm/pool.hpp"

namespace proa::hv {
namespace {

// Stage-1 attributes at EL2 (D8.3.1): AttrIndx selects MAIR_EL2's byte; AP[1] is RES1, AP[2] is read-only.
namespace s1 {
constexpr std::uint64_t Normal = 0ull << 2, Device = 1ull << 2, AP1 = 1ull << 6, ReadOnly = 1ull << 7,
                        XN = 1ull << 54;
}
constexpr std::uint64_t kMair = 0xff | 0x04ull << 8;  // 0: Normal WB RA WA; 1: Device-nGnRE

constexpr std::uint64_t attributes(El2Memory kind) {
    const std::uint64_t base = pte::AF | pte::SH_INNER | s1::AP1;
    switch (kind) {
        case El2Memory::Code: return base | s1::Normal | s1::ReadOnly;
        case El2Memory::ReadOnly: return base | s1::Normal | s1::ReadOnly | s1::XN;
        case El2Memory::Data: return base | s1::Normal | s1::XN;
        case El2Memory::Device: return pte::AF | s1::AP1 | s1::Device | s1::XN;
    }
    return 0;
}

std::uint64_t* new_table() {
    auto* t = static_cast<std::uint64_t*>(pool().alloc());
    if (t == nullptr) panic("no memory for EL2's translation tables");
    return t;
}

unsigned index(Pa at, unsigned level) {
    return static_cast<unsigned>(at.v >> pte::shift(level)) & 511;
}

// The slot at `level`; a block met on the way is split with its attributes (only before the map is in use).
std::uint64_t* descend(std::uint64_t* root, Pa at, unsigned level) {
    std::uint64_t* slot = &root[index(at, 0)];
    for (unsigned l = 0; l < level; ++l) {
        if (!pte::is_table(*slot, l)) {
            std::uint64_t* t = new_table();
            const std::uint64_t e = *slot;
            for (unsigned i = 0; e != 0 && i < 512; ++i)
                t[i] = ((e & pte::kAddress) + i * pte::span(l + 1)) | (e & ~(pte::kAddress | 3)) |
                       pte::leaf_bits(l + 1);
            *slot = pool().pa(t).v | pte::Valid | pte::Table;
        }
        slot = &static_cast<std::uint64_t*>(pool().ptr(Pa(*slot & pte::kAddress)))[index(at, l + 1)];
    }
    return slot;
}

}  // namespace

void El2Map::init() {
    root_ = new_table();
}

void El2Map::map(Pa at, std::uint64_t size, El2Memory kind) {
    for (const Pa end = at + size; at < end;) {
        unsigned level = 1;
        while (level < 3 && (!at.aligned(pte::span(level)) || end - at < pte::span(level))) ++level;
        *descend(root_, at, level) = at.v | attributes(kind) | pte::leaf_bits(level);
        at = at + pte::span(level);
    }
}

void El2Map::unmap_page(Pa at) {
    *descend(root_, at, 3) = 0;
}

std::uint64_t El2Map::ttbr0() const {
    return pool().pa(root_).v;
}

std::uint64_t el2_mair() {
    return kMair;
}
std::uint64_t el2_tcr() {
    return tcr2::RES1 | tcr2::t0sz(El2Map::kVaBits) | tcr2::IRGN0_WBWA | tcr2::ORGN0_WBWA | tcr2::SH0_INNER |
           tcr2::ps(field(IdAa64mmfr0El1::read(), 0, 4) < 5 ? field(IdAa64mmfr0El1::read(), 0, 4) : 5);
}

}  // namespace proa::hv
