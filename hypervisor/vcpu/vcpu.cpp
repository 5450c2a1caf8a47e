#include "hypervisor/vcpu/vcpu.hpp"

#include "hypervisor/arch/sysreg.hpp"

namespace proa::hv {
namespace {

// PSTATE a guest may be resumed with: EL0t, EL1t or EL1h in AArch64; the reserved mode bits make ERET illegal.
constexpr bool valid_mode(std::uint64_t p) {
    if ((p & pstate::AArch32) != 0) return false;
    const std::uint64_t m = p & pstate::kModeMask;
    return m == pstate::EL0t || m == pstate::EL1t || m == pstate::EL1h;
}

}  // namespace

void Vcpu::reset(std::uint64_t entry, std::uint64_t argument) {
    frame = {};
    frame.pc = entry;
    frame.pstate = pstate::kReset;
    frame.x[0] = argument;
    el1.reset();
    fp = {};
    gic_cpu = {};
    ptimer = {};
    lrs.used = 0;
}

void Vcpu::export_to(abi::VcpuState& s) const {
    s = {};
    s.version = abi::kStateVersion;
    s.power = (reasons & Off) != 0 ? abi::PowerState::Off : abi::PowerState::On;
    for (unsigned i = 0; i < 31; ++i) s.x[i] = frame.x[i];
    s.pc = frame.pc;
    s.pstate = frame.pstate;
    el1.export_to(s);
    for (unsigned i = 0; i < 32; ++i) s.v[i][0] = fp.v[i][0], s.v[i][1] = fp.v[i][1];
    s.fpcr = fp.fpcr;
    s.fpsr = fp.fpsr;
    s.cntp_ctl = ptimer.ctl;
    s.cntp_cval = ptimer.cval;
    gic_cpu.export_to(s);
    s.mpidr_el1 = vmpidr;
}

bool Vcpu::import_from(const abi::VcpuState& s) {
    if (s.version != abi::kStateVersion || s.mpidr_el1 != vmpidr || !valid_mode(s.pstate)) return false;
    if (s.power != abi::PowerState::On && s.power != abi::PowerState::Off) return false;
    for (unsigned i = 0; i < 31; ++i) frame.x[i] = s.x[i];
    frame.pc = s.pc;
    frame.pstate = s.pstate;
    el1.import_from(s);
    for (unsigned i = 0; i < 32; ++i) fp.v[i][0] = s.v[i][0], fp.v[i][1] = s.v[i][1];
    fp.fpcr = s.fpcr;
    fp.fpsr = s.fpsr;
    ptimer.ctl = s.cntp_ctl & (cnt_ctl::ENABLE | cnt_ctl::IMASK);
    ptimer.cval = s.cntp_cval;
    gic_cpu.import_from(s);
    lrs.used = 0;
    return true;
}

std::uint64_t Vcpu::next_deadline() const {
    std::uint64_t at = ~0ull;
    if ((el1.cntv_ctl & (cnt_ctl::ENABLE | cnt_ctl::IMASK)) == cnt_ctl::ENABLE) at = el1.cntv_cval + cntvoff;
    if ((ptimer.ctl & (cnt_ctl::ENABLE | cnt_ctl::IMASK)) == cnt_ctl::ENABLE && ptimer.cval + cntvoff < at)
        at = ptimer.cval + cntvoff;
    return at;
}

namespace {

constexpr std::uint64_t kEsrUnknown = kEsrIl;   // EC 0
constexpr std::uint64_t kExternalAbort = 0x10;  // DFSC/IFSC: synchronous external abort, not on a walk

// Vector offsets by where the exception came from (D1.3.1).
std::uint64_t vector_offset(std::uint64_t p) {
    const std::uint64_t mode = p & pstate::kModeMask;
    return mode == pstate::EL1h ? 0x200 : mode == pstate::EL1t ? 0x000 : 0x400;
}

void enter_el1(Vcpu& v, std::uint64_t esr) {
    const std::uint64_t old = v.frame.pstate, sctlr = SctlrEl1::read();
    EsrEl1::write(esr);
    ElrEl1::write(v.frame.pc);
    SpsrEl1::write(old);
    v.frame.pc = VbarEl1::read() + vector_offset(old);
    // PSTATE on exception entry: masked, EL1h; PAN set unless SCTLR_EL1.SPAN, SSBS from DSSBS; the rest cleared.
    v.frame.pstate = pstate::kReset | (old & pstate::PAN) | ((sctlr & sctlr1::SPAN) == 0 ? pstate::PAN : 0) |
                     ((sctlr & sctlr1::DSSBS) != 0 ? pstate::SSBS : 0);
}

}  // namespace

void inject_undefined(Vcpu& v) {
    enter_el1(v, kEsrUnknown);
}

void inject_external_abort(Vcpu& v, bool instruction, std::uint64_t far) {
    const bool same = (v.frame.pstate & pstate::kModeMask) != pstate::EL0t;
    const unsigned cls = instruction ? (same ? ec::InstAbortSame : ec::InstAbortLower)
                                     : (same ? ec::DataAbortSame : ec::DataAbortLower);
    FarEl1::write(far);
    enter_el1(v, static_cast<std::uint64_t>(cls) << 26 | kEsrIl | kExternalAbort);
}

}  // namespace proa::hv
