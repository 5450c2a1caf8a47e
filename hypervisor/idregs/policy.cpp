#include "hypervisor/idregs/policy.hpp"

namespace proa::hv {
namespace {

using P = abi::CpuPolicy;

struct Row {
    std::uint64_t P::*reg;
    unsigned crm, op2;
    std::uint64_t shown;      // fields a guest may see; the others read 0
    std::uint64_t fixed;      // bits set whatever the host has
    std::uint64_t is_signed;  // fields where 0xf means "not implemented" (D19.1.3)
};

constexpr std::uint64_t f(unsigned shift) {
    return 0xfull << shift;
}
constexpr std::uint64_t kAll = ~0ull;

// Hidden: EL2, EL3, RAS, SVE, SEL2, MPAM, AMU, RME (PFR0); MTE, SME, RAS_frac, MPAM_frac, NMI (PFR1); PMU, tracing,
// statistical profiling and all but the minimum of breakpoints (DFR0); LOR, XNX, nested virtualization and what
// concerns EL2 only (MMFR1, MMFR2); stage-2 granules, ECV, FGT (MMFR0); WFxT (ISAR2).
constexpr Row kRows[] = {
    // register               crm op2  shown                                                    fixed         signed
    {&P::id_aa64pfr0_el1, 4, 0, f(16) | f(20) | f(24) | f(48) | f(56) | f(60), 0x11, f(16) | f(20)},
    {&P::id_aa64pfr1_el1, 4, 1, f(0) | f(4), 0, 0},
    {&P::id_aa64zfr0_el1, 4, 4, 0, 0, 0},
    {&P::id_aa64smfr0_el1, 4, 5, 0, 0, 0},
    {&P::id_aa64dfr0_el1, 5, 0, 0, 0x10'1006, 0},
    {&P::id_aa64dfr1_el1, 5, 1, 0, 0, 0},
    {&P::id_aa64isar0_el1, 6, 0, kAll & ~f(24), 0, 0},
    {&P::id_aa64isar1_el1, 6, 1, kAll, 0, 0},
    {&P::id_aa64isar2_el1, 6, 2, f(4) | f(8) | f(12) | f(16) | f(20), 0, 0},
    {&P::id_aa64mmfr0_el1, 7, 0, f(0) | f(4) | f(8) | f(12) | f(16) | f(20) | f(24) | f(28) | f(44), 0,
     f(24) | f(28)},
    {&P::id_aa64mmfr1_el1, 7, 1, f(0) | f(4) | f(12) | f(20) | f(28), 0, 0},
    {&P::id_aa64mmfr2_el1, 7, 2,
     f(0) | f(4) | f(8) | f(12) | f(16) | f(28) | f(32) | f(36) | f(48) | f(52) | f(60), 0, 0},
};

constexpr unsigned word_of(std::uint64_t P::*reg) {
    constexpr P origin{};
    return static_cast<unsigned>(&(origin.*reg) - &origin.midr_el1) + 1;
}

}  // namespace

abi::CpuPolicy sanitize(const abi::CpuPolicy& host) {
    abi::CpuPolicy p = host;
    p.version = abi::kStateVersion;
    p.reserved0 = 0;
    for (const Row& r : kRows) p.*r.reg = ((host.*r.reg) & r.shown) | r.fixed;
    // GIC system registers are there whatever sits in the field's shown bits.
    p.id_aa64pfr0_el1 = (p.id_aa64pfr0_el1 & ~f(24)) | 1ull << 24;
    for (auto& w : p.reserved1) w = 0;
    return p;
}

PolicyMismatch check(const abi::CpuPolicy& guest, const abi::CpuPolicy& host) {
    const auto whole = [](unsigned word) { return PolicyMismatch{true, word, 0, true}; };
    if (guest.version != abi::kStateVersion) return whole(0);
    if (guest.midr_el1 != host.midr_el1) return whole(word_of(&P::midr_el1));
    if (guest.ctr_el0 != host.ctr_el0) return whole(word_of(&P::ctr_el0));
    if (guest.dczid_el0 != host.dczid_el0) return whole(word_of(&P::dczid_el0));
    if (guest.cntfrq_el0 != host.cntfrq_el0) return whole(word_of(&P::cntfrq_el0));
    for (const Row& r : kRows)
        for (unsigned shift = 0; shift < 64; shift += 4) {
            std::uint64_t need = (guest.*r.reg) >> shift & 0xf, have = (host.*r.reg) >> shift & 0xf;
            if ((r.is_signed >> shift & 1) != 0) need ^= 8, have ^= 8;
            if (need > have) return {true, word_of(r.reg), shift, false};
        }
    return {};
}

std::uint64_t read_id_register(const abi::CpuPolicy& p, unsigned crm, unsigned op2) {
    for (const Row& r : kRows)
        if (r.crm == crm && r.op2 == op2) return p.*r.reg;
    return 0;  // AArch32 ID registers (no AArch32 here) and the unallocated: RAZ
}

}  // namespace proa::hv
