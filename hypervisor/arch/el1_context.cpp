#include "hypervisor/arch/el1_context.hpp"

#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/sysreg.hpp"

namespace proa::hv {
namespace {

// Writing a translation register makes emulators and some cores drop their TLBs even for the same value.
template <class Reg>
void write_if_changed(std::uint64_t v) {
    if (Reg::read() != v) Reg::write(v);
}

template <class Lo, class Hi>
void save_key(std::uint64_t (&key)[2]) {
    key[0] = Lo::read();
    key[1] = Hi::read();
}
template <class Lo, class Hi>
void load_key(const std::uint64_t (&key)[2]) {
    Lo::write(key[0]);
    Hi::write(key[1]);
}

}  // namespace

void El1Context::reset() {
    *this = El1Context{};
    sctlr = sctlr1::kReset;
}

void El1Context::save(bool pauth) {
    sctlr = SctlrEl1::read();
    cpacr = CpacrEl1::read();
    ttbr0 = Ttbr0El1::read();
    ttbr1 = Ttbr1El1::read();
    tcr = TcrEl1::read();
    mair = MairEl1::read();
    amair = AmairEl1::read();
    esr = EsrEl1::read();
    far = FarEl1::read();
    afsr0 = Afsr0El1::read();
    afsr1 = Afsr1El1::read();
    par = ParEl1::read();
    vbar = VbarEl1::read();
    contextidr = ContextidrEl1::read();
    tpidr_el0 = TpidrEl0::read();
    tpidrro_el0 = TpidrroEl0::read();
    tpidr_el1 = TpidrEl1::read();
    csselr = CsselrEl1::read();
    cntkctl = CntkctlEl1::read();
    mdscr = MdscrEl1::read();
    sp_el0 = SpEl0::read();
    sp_el1 = SpEl1::read();
    elr = ElrEl1::read();
    spsr = SpsrEl1::read();
    if (pauth) {
        save_key<ApiaKeyLo, ApiaKeyHi>(apia);
        save_key<ApibKeyLo, ApibKeyHi>(apib);
        save_key<ApdaKeyLo, ApdaKeyHi>(apda);
        save_key<ApdbKeyLo, ApdbKeyHi>(apdb);
        save_key<ApgaKeyLo, ApgaKeyHi>(apga);
    }
    cntv_ctl = CntvCtlEl0::read() & (cnt_ctl::ENABLE | cnt_ctl::IMASK);
    cntv_cval = CntvCvalEl0::read();
    if ((cntv_ctl & cnt_ctl::ENABLE) != 0) CntvCtlEl0::write(0);
}

void El1Context::load(bool pauth) const {
    write_if_changed<SctlrEl1>(sctlr);
    CpacrEl1::write(cpacr);
    write_if_changed<Ttbr0El1>(ttbr0);
    write_if_changed<Ttbr1El1>(ttbr1);
    write_if_changed<TcrEl1>(tcr);
    write_if_changed<MairEl1>(mair);
    AmairEl1::write(amair);
    EsrEl1::write(esr);
    FarEl1::write(far);
    Afsr0El1::write(afsr0);
    Afsr1El1::write(afsr1);
    ParEl1::write(par);
    VbarEl1::write(vbar);
    write_if_changed<ContextidrEl1>(contextidr);
    TpidrEl0::write(tpidr_el0);
    TpidrroEl0::write(tpidrro_el0);
    TpidrEl1::write(tpidr_el1);
    CsselrEl1::write(csselr);
    CntkctlEl1::write(cntkctl);
    write_if_changed<MdscrEl1>(mdscr);
    SpEl0::write(sp_el0);
    SpEl1::write(sp_el1);
    ElrEl1::write(elr);
    SpsrEl1::write(spsr);
    if (pauth) {
        load_key<ApiaKeyLo, ApiaKeyHi>(apia);
        load_key<ApibKeyLo, ApibKeyHi>(apib);
        load_key<ApdaKeyLo, ApdaKeyHi>(apda);
        load_key<ApdbKeyLo, ApdbKeyHi>(apdb);
        load_key<ApgaKeyLo, ApgaKeyHi>(apga);
    }
    if ((cntv_ctl & cnt_ctl::ENABLE) != 0) {
        CntvCvalEl0::write(cntv_cval);
        CntvCtlEl0::write(cntv_ctl);
    } else {
        if (CntvCtlEl0::read() != cntv_ctl) CntvCtlEl0::write(cntv_ctl);
        write_if_changed<CntvCvalEl0>(cntv_cval);
    }
    isb();
}

namespace {

// One row per register that is the same word in both worlds.
struct Row {
    std::uint64_t El1Context::*mine;
    std::uint64_t abi::VcpuState::*theirs;
};
constexpr Row kRows[] = {
    {&El1Context::sctlr, &abi::VcpuState::sctlr_el1},
    {&El1Context::cpacr, &abi::VcpuState::cpacr_el1},
    {&El1Context::ttbr0, &abi::VcpuState::ttbr0_el1},
    {&El1Context::ttbr1, &abi::VcpuState::ttbr1_el1},
    {&El1Context::tcr, &abi::VcpuState::tcr_el1},
    {&El1Context::mair, &abi::VcpuState::mair_el1},
    {&El1Context::amair, &abi::VcpuState::amair_el1},
    {&El1Context::esr, &abi::VcpuState::esr_el1},
    {&El1Context::far, &abi::VcpuState::far_el1},
    {&El1Context::afsr0, &abi::VcpuState::afsr0_el1},
    {&El1Context::afsr1, &abi::VcpuState::afsr1_el1},
    {&El1Context::par, &abi::VcpuState::par_el1},
    {&El1Context::vbar, &abi::VcpuState::vbar_el1},
    {&El1Context::contextidr, &abi::VcpuState::contextidr_el1},
    {&El1Context::tpidr_el0, &abi::VcpuState::tpidr_el0},
    {&El1Context::tpidrro_el0, &abi::VcpuState::tpidrro_el0},
    {&El1Context::tpidr_el1, &abi::VcpuState::tpidr_el1},
    {&El1Context::csselr, &abi::VcpuState::csselr_el1},
    {&El1Context::cntkctl, &abi::VcpuState::cntkctl_el1},
    {&El1Context::mdscr, &abi::VcpuState::mdscr_el1},
    {&El1Context::sp_el0, &abi::VcpuState::sp_el0},
    {&El1Context::sp_el1, &abi::VcpuState::sp_el1},
    {&El1Context::elr, &abi::VcpuState::elr_el1},
    {&El1Context::spsr, &abi::VcpuState::spsr_el1},
    {&El1Context::cntv_ctl, &abi::VcpuState::cntv_ctl},
    {&El1Context::cntv_cval, &abi::VcpuState::cntv_cval},
};

void copy_key(std::uint64_t (&to)[2], const std::uint64_t (&from)[2]) {
    to[0] = from[0];
    to[1] = from[1];
}

}  // namespace

void El1Context::export_to(abi::VcpuState& s) const {
    for (const Row& r : kRows) s.*r.theirs = this->*r.mine;
    copy_key(s.apia, apia);
    copy_key(s.apib, apib);
    copy_key(s.apda, apda);
    copy_key(s.apdb, apdb);
    copy_key(s.apga, apga);
}

void El1Context::import_from(const abi::VcpuState& s) {
    for (const Row& r : kRows) this->*r.mine = s.*r.theirs;
    copy_key(apia, s.apia);
    copy_key(apib, s.apib);
    copy_key(apda, s.apda);
    copy_key(apdb, s.apdb);
    copy_key(apga, s.apga);
    cntv_ctl &= cnt_ctl::ENABLE | cnt_ctl::IMASK;
    mdscr = 0;  // debug registers are hidden: self-hosted debug state doesn't move
}

}  // namespace proa::hv
