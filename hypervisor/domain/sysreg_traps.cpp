#include "hypervisor/domain/sysreg_traps.hpp"

#include "hypervisor/domain/domain.hpp"
#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

// ISS of a trapped MSR, MRS or system instruction.
struct SysAccess {
    std::uint64_t esr;
    unsigned op0() const { return static_cast<unsigned>(esr >> 20 & 3); }
    unsigned op1() const { return static_cast<unsigned>(esr >> 14 & 7); }
    unsigned crn() const { return static_cast<unsigned>(esr >> 10 & 15); }
    unsigned crm() const { return static_cast<unsigned>(esr >> 1 & 15); }
    unsigned op2() const { return static_cast<unsigned>(esr >> 17 & 7); }
    unsigned rt() const { return static_cast<unsigned>(esr >> 5 & 31); }
    bool read() const { return (esr & 1) != 0; }
};
constexpr unsigned key(unsigned op0, unsigned op1, unsigned crn, unsigned crm, unsigned op2) {
    return op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}

std::uint64_t guest_counter(const Vcpu& v) {
    return CntpctEl0::read() - v.cntvoff;
}

bool read_zero_write_ignore(Vcpu& v, const SysAccess& a) {
    if (a.read()) v.set_reg(a.rt(), 0);
    return true;
}

bool send_sgi(Vcpu& v, const SysAccess& a) {
    if (a.read()) return false;
    v.gic->lock.lock();
    v.gic->vgic.send_sgi(v.index, v.reg(a.rt()));
    v.gic->lock.unlock();
    v.domain->deliver_kicks();
    return true;
}

// Group 0 and the other security state's group 1 don't exist here: the write does nothing.
bool ignore_write(Vcpu&, const SysAccess& a) {
    return !a.read();
}

bool counter(Vcpu& v, const SysAccess& a) {
    if (!a.read()) return false;
    v.set_reg(a.rt(), guest_counter(v));
    return true;
}

bool timer_control(Vcpu& v, const SysAccess& a) {
    if (a.read()) {
        const bool met = v.ptimer.enabled() && guest_counter(v) >= v.ptimer.cval;
        v.set_reg(a.rt(), v.ptimer.ctl | (met ? cnt_ctl::ISTATUS : 0));
        return true;
    }
    v.ptimer.ctl = v.reg(a.rt()) & (cnt_ctl::ENABLE | cnt_ctl::IMASK);
    // Before retime(), which ignores a timer that is off: its line falls here.
    v.gic->lock.lock();
    v.gic->vgic.set_private_line(v.index, abi::kPhysicalTimerIntid, v.ptimer.asserted(guest_counter(v)));
    v.gic->lock.unlock();
    v.domain->deliver_kicks();
    return true;
}

bool timer_compare(Vcpu& v, const SysAccess& a) {
    if (a.read()) {
        v.set_reg(a.rt(), v.ptimer.cval);
        return true;
    }
    v.ptimer.cval = v.reg(a.rt());
    retime(v);
    return true;
}

bool timer_value(Vcpu& v, const SysAccess& a) {
    if (a.read()) {
        v.set_reg(a.rt(), (v.ptimer.cval - guest_counter(v)) & 0xffff'ffff);
        return true;
    }
    const auto delta = static_cast<std::int64_t>(static_cast<std::int32_t>(v.reg(a.rt())));
    v.ptimer.cval = guest_counter(v) + static_cast<std::uint64_t>(delta);
    retime(v);
    return true;
}

struct Row {
    unsigned at;
    bool (*handler)(Vcpu&, const SysAccess&);
};
constexpr Row kRows[] = {
    {key(3, 0, 1, 0, 1), read_zero_write_ignore},  // ACTLR_EL1
    {key(3, 0, 12, 11, 5), send_sgi},              // ICC_SGI1R_EL1
    {key(3, 0, 12, 11, 6), ignore_write},          // ICC_ASGI1R_EL1
    {key(3, 0, 12, 11, 7), ignore_write},          // ICC_SGI0R_EL1
    {key(3, 3, 14, 0, 1), counter},                // CNTPCT_EL0
    {key(3, 3, 14, 2, 0), timer_value},            // CNTP_TVAL_EL0
    {key(3, 3, 14, 2, 1), timer_control},          // CNTP_CTL_EL0
    {key(3, 3, 14, 2, 2), timer_compare},          // CNTP_CVAL_EL0
};

}  // namespace

bool sysreg_trap(Vcpu& v, std::uint64_t esr) {
    const SysAccess a{esr};
    if (a.op0() == 2) return read_zero_write_ignore(v, a);  // debug registers: present, do nothing
    if (a.op0() == 3 && a.op1() == 0 && a.crn() == 0 && a.crm() >= 1 && a.crm() <= 7) {
        if (!a.read()) return false;
        v.set_reg(a.rt(), read_id_register(v.domain->policy(), a.crm(), a.op2()));
        return true;
    }
    const unsigned k = key(a.op0(), a.op1(), a.crn(), a.crm(), a.op2());
    for (const Row& r : kRows)
        if (r.at == k) return r.handler(v, a);
    return false;
}

}  // namespace proa::hv
