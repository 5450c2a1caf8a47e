#include "hypervisor/sched/timers.hpp"

#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/sched/deadline.hpp"
#include "hypervisor/sched/dispatcher.hpp"
#include "hypervisor/sched/scheduler.hpp"

namespace proa::hv {
namespace {

struct PerCpu {
    Vcpu* head = nullptr;
    std::uint64_t next = ~0ull;        // of the list
    std::uint64_t programmed = ~0ull;  // what CNTHP holds; ~0: off
};
PerCpu per_cpu[kSchedPcpus];

void recompute(PerCpu& p) {
    std::uint64_t next = ~0ull;
    for (const Vcpu* v = p.head; v != nullptr; v = v->next_timer)
        if (v->wake_at < next) next = v->wake_at;
    __atomic_store_n(&p.next, next, __ATOMIC_RELAXED);
}

void program(Pcpu& self, std::uint64_t at) {
    PerCpu& p = per_cpu[self.id];
    if (const std::uint64_t d = deadline(); d < at) at = d;
    if (p.programmed == at) return;
    p.programmed = at;
    if (at == ~0ull) {
        CnthpCtlEl2::write(0);
        return;
    }
    CnthpCvalEl2::write(at);
    CnthpCtlEl2::write(cnt_ctl::ENABLE);
}

}  // namespace

void disarm_timer(Vcpu& v) {
    if (v.timer_on == nullptr) return;
    PerCpu& p = per_cpu[v.timer_on->id];
    for (Vcpu** at = &p.head; *at != nullptr; at = &(*at)->next_timer)
        if (*at == &v) {
            *at = v.next_timer;
            break;
        }
    v.timer_on = nullptr;
    v.wake_at = ~0ull;
    recompute(p);
}

void arm_timer(Vcpu& v, Pcpu& on) {
    disarm_timer(v);
    if ((v.reasons & (Vcpu::Off | Vcpu::Paused)) != 0) return;
    v.wake_at = v.next_deadline();
    if (v.wake_at == ~0ull) return;
    PerCpu& p = per_cpu[on.id];
    v.timer_on = &on;
    v.next_timer = p.head;
    p.head = &v;
    recompute(p);
    if (&on != &Pcpu::self() && v.wake_at < p.programmed) PhysGic::send_sgi(kSgiKick, on.mpidr);
}

Vcpu* take_due(Pcpu& self, std::uint64_t now) {
    for (Vcpu* v = per_cpu[self.id].head; v != nullptr; v = v->next_timer)
        if (v->wake_at <= now) {
            disarm_timer(*v);
            return v;
        }
    return nullptr;
}

std::uint64_t next_timer_of(const Pcpu& self) {
    return __atomic_load_n(&per_cpu[self.id].next, __ATOMIC_RELAXED);
}

void fire_timers(Vcpu& v, std::uint64_t now) {
    const std::uint64_t guest_now = now - v.cntvoff;
    v.gic->lock.lock();
    if ((v.el1.cntv_ctl & (cnt_ctl::ENABLE | cnt_ctl::IMASK)) == cnt_ctl::ENABLE &&
        guest_now >= v.el1.cntv_cval)
        v.gic->vgic.set_private_line(v.index, abi::kVirtualTimerIntid, true);
    if (v.ptimer.asserted(guest_now)) v.gic->vgic.set_private_line(v.index, abi::kPhysicalTimerIntid, true);
    v.gic->lock.unlock();
    kick_gic(*v.gic);
}

void program_timer(Pcpu& self, const Vcpu& current, std::uint64_t now) {
    std::uint64_t at = next_timer_of(self);
    if (self.slice_end < at) at = self.slice_end;
    if ((current.ptimer.ctl & (cnt_ctl::ENABLE | cnt_ctl::IMASK)) == cnt_ctl::ENABLE) {
        const std::uint64_t due = current.ptimer.cval + current.cntvoff;
        if (due < at && due > now) at = due;
    }
    program(self, at);
}

void program_idle_timer(Pcpu& self) {
    const std::uint64_t at = next_timer_of(self);
    program(self, self.slice_end < at ? self.slice_end : at);
}

void timer_fired(Pcpu& self) {
    per_cpu[self.id].programmed = ~0ull;
    CnthpCtlEl2::write(0);
    if (self.current != nullptr) retime(*self.current);
}

void retime(Vcpu& v) {
    if (v.ptimer.ctl == 0) return;
    const bool level = v.ptimer.asserted(CntpctEl0::read() - v.cntvoff);
    v.gic->lock.lock();
    v.gic->vgic.set_private_line(v.index, abi::kPhysicalTimerIntid, level);
    v.gic->lock.unlock();
    kick_gic(*v.gic);
}

}  // namespace proa::hv
