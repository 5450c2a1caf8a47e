#include "hypervisor/sched/dispatcher.hpp"

#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/mm/stage2_env.hpp"
#include "hypervisor/sched/deadline.hpp"
#include "hypervisor/sched/interrupts.hpp"
#include "hypervisor/sched/scheduler.hpp"
#include "hypervisor/sched/timers.hpp"
#include "hypervisor/sched/world.hpp"

namespace proa::hv {
namespace {

Spinlock lock;
Scheduler scheduler;
Pcpu* cpus[kSchedPcpus];
unsigned cpu_count;
PhysGic* gic;

Vcpu& vcpu_of(SchedNode& n) {
    return *reinterpret_cast<Vcpu*>(reinterpret_cast<char*>(&n) - __builtin_offsetof(Vcpu, node));
}

void poke(Pcpu& cpu) {
    __atomic_store_n(&cpu.resched, 1u, __ATOMIC_RELEASE);
    if (&cpu != &Pcpu::self()) PhysGic::send_sgi(kSgiKick, cpu.mpidr);
}

// Somebody was queued for `cpu`. Even without preemption it must learn that its slice has an end now.
void announce(Pcpu& cpu, bool preempt) {
    if (preempt || cpu.slice_end == ~0ull || cpu.current == nullptr) poke(cpu);
}

void make_runnable(Vcpu& v) {
    if (v.node.state != SchedNode::State::Out) return;
    const Scheduler::Placement p = scheduler.wake(v.node, CntpctEl0::read());
    announce(*cpus[p.pcpu], p.preempt);
}

void take_off(Vcpu& v) {
    if (v.node.state == SchedNode::State::Running)
        poke(*cpus[v.node.pcpu]);  // it requeues or drops the vCPU itself, when it is out of it
    else
        scheduler.remove(v.node);
}

// Saves what is loaded here, if it is somebody else's than `next`.
void unload(Pcpu& self, const Vcpu* next) {
    Vcpu* old = self.loaded;
    if (old == nullptr || old == next) return;
    gic_sync(*old);
    save_world(*old, self);
    {
        Guard guard(lock);
        __atomic_store_n(&old->loaded_on, static_cast<Pcpu*>(nullptr), __ATOMIC_RELEASE);
        arm_timer(*old, self);
    }
    self.loaded = nullptr;
}

// A vCPU that was preempted elsewhere a moment ago may still be on its way into memory there. That pCPU saves before
// it waits for anything, so this ends.
void load(Pcpu& self, Vcpu& v) {
    while (__atomic_load_n(&v.loaded_on, __ATOMIC_ACQUIRE) != nullptr) spin_hint();
    {
        Guard guard(lock);
        disarm_timer(v);
        v.loaded_on = &self;
    }
    load_world(v, self);
    self.loaded = &v;
    v.gic_synced = true;
}

void account(Pcpu& self, std::uint64_t now) {
    const std::uint64_t ran = now - self.last_switch;
    self.last_switch = now;
    if (self.current == nullptr) {
        self.idle_ticks += ran;
        return;
    }
    self.busy_ticks += ran;
    self.current->run_ticks += ran;
    scheduler.account(self.current->node, ran, now);
}

// Chooses self.current anew; null: idle.
void choose(Pcpu& self) {
    Guard guard(lock);
    const std::uint64_t now = CntpctEl0::read();
    account(self, now);
    if (self.current != nullptr) {
        SchedNode& n = self.current->node;
        if (self.current->reasons == 0)
            scheduler.requeue(n, now >= self.slice_end);
        else
            scheduler.remove(n);
        if (n.pcpu != self.id && n.state == SchedNode::State::Queued) announce(*cpus[n.pcpu], false);
    }
    const Scheduler::Choice c = scheduler.pick(self.id, now);
    Vcpu* next = c.node != nullptr ? &vcpu_of(*c.node) : nullptr;
    if (next != self.current) ++self.switches;
    self.current = next;
    self.slice_end = c.until;
    if (next != nullptr) self.frame = &next->frame;
}

}  // namespace

void dispatcher_init(Pcpu* const* pcpus, unsigned count, PhysGic& physical) {
    const std::uint64_t hz = CntfrqEl0::read();
    for (unsigned i = 0; i < count; ++i) cpus[i] = pcpus[i];
    cpu_count = count;
    gic = &physical;
    scheduler.init({.pcpus = count, .slice = hz / 100, .granularity = hz / 1000, .window = hz / 10});
}

// Registers that are the same for every domain (Arm ARM D19; values proven on QEMU's and Arm's cores).
void dispatcher_init_cpu(Pcpu&) {
    HcrEl2::write(hcr::kDomain);
    VtcrEl2::write(vtcr::RES1 | vtcr::t0sz(Stage2::kIpaBits) | vtcr::start_level_1 | vtcr::IRGN0_WBWA |
                   vtcr::ORGN0_WBWA | vtcr::SH0_INNER | vtcr::TG0_4K | vtcr::ps(2) |
                   (field(IdAa64mmfr1El1::read(), 0, 4) >= 2 ? vtcr::HA | vtcr::HD : 0));
    CptrEl2::write(cptr::kDomain);
    MdcrEl2::write(mdcr::kDomain | field(PmcrEl0::read(), 11, 5));  // HPMN = PMCR.N: no counters for EL2
    HstrEl2::write(0);
    CntvoffEl2::write(0);
    CnthpCtlEl2::write(0);
    IchHcrEl2::write(0);
    isb();
    asm volatile("tlbi alle1is\n ic ialluis\n dsb ish\n isb" ::: "memory");
}

PhysGic& phys_gic() {
    return *gic;
}
unsigned pcpu_count() {
    return cpu_count;
}
Pcpu& pcpu(unsigned id) {
    return *cpus[id];
}

void block(Vcpu& v, Vcpu::Reason why) {
    Guard guard(lock);
    const bool was = v.reasons == 0;
    v.reasons |= why;
    if (was) take_off(v);
    // A paused guest's counter stands still: its timers must not fire by the host's.
    if (why == Vcpu::Paused && v.loaded_on == nullptr) disarm_timer(v);
}

void unblock(Vcpu& v, Vcpu::Reason why) {
    Guard guard(lock);
    if ((v.reasons & why) == 0) return;
    v.reasons &= ~static_cast<std::uint32_t>(why);
    if (v.reasons == 0) make_runnable(v);
    // A sleeping vCPU that was paused has timers again.
    if (why == Vcpu::Paused && v.loaded_on == nullptr) arm_timer(v, *cpus[v.node.pcpu]);
}

bool sleep_until_interrupt(Vcpu& v) {
    Guard guard(lock);
    if (v.kicked) {
        v.kicked = false;
        return false;
    }
    v.reasons |= Vcpu::Wfi;
    return true;
}

void kick_gic(GicUnit& unit) {
    unit.lock.lock();
    std::uint32_t kicks = unit.vgic.take_kicks();
    unit.lock.unlock();
    if (kicks == 0) return;
    Guard guard(lock);
    for (; kicks != 0; kicks &= kicks - 1) {
        const auto i = static_cast<unsigned>(__builtin_ctz(kicks));
        if (i >= unit.count) continue;
        Vcpu& v = unit.vcpus[i];
        v.kicked = true;
        if ((v.reasons & Vcpu::Wfi) != 0) {
            v.reasons &= ~static_cast<std::uint32_t>(Vcpu::Wfi);
            if (v.reasons == 0) make_runnable(v);
        } else if (v.loaded_on != nullptr && v.loaded_on != &Pcpu::self()) {
            PhysGic::send_sgi(kSgiKick, v.loaded_on->mpidr);  // its exit path folds the new interrupt in
        }
    }
}

bool is_quiet(const Vcpu& v) {
    Guard guard(lock);
    if (v.node.state == SchedNode::State::Running || v.loaded_on != nullptr) {
        if (Pcpu* at = v.loaded_on != nullptr ? v.loaded_on : cpus[v.node.pcpu]) poke(*at);
        return false;
    }
    return true;
}

void set_affinity(Vcpu& v, std::uint64_t mask) {
    Guard guard(lock);
    v.node.affinity = mask;
    if (v.node.state == SchedNode::State::Queued) {
        scheduler.remove(v.node);
        make_runnable(v);
    } else if (v.node.state == SchedNode::State::Running) {
        poke(*cpus[v.node.pcpu]);
    }
}

void set_weight(Vcpu& v, std::uint32_t weight) {
    Guard guard(lock);
    v.node.weight = weight;
}

void set_throttle(Vcpu& v, unsigned percent) {
    Guard guard(lock);
    v.node.throttle = static_cast<std::uint8_t>(percent);
    v.node.window_used = 0;
    v.node.window = CntpctEl0::read();
    if (v.node.state == SchedNode::State::Running) poke(*cpus[v.node.pcpu]);
}

std::uint32_t run_state(const Vcpu& v) {
    const std::uint32_t r = v.reasons;
    if ((r & Vcpu::Off) != 0) return 0;
    if ((r & Vcpu::Paused) != 0) return 5;
    if ((r & Vcpu::Exit) != 0) return 4;
    if ((r & Vcpu::CopyWait) != 0) return 6;
    if ((r & Vcpu::Wfi) != 0) return 3;
    return v.node.state == SchedNode::State::Running ? 2 : 1;
}

// Wakes the sleepers whose timers have come; the dispatcher's lock is not held, for the vGIC's comes first.
void expire_timers(Pcpu& self) {
    const std::uint64_t now = CntpctEl0::read();
    for (;;) {
        Vcpu* due = nullptr;
        {
            Guard guard(lock);
            due = take_due(self, now);
        }
        if (due == nullptr) return;
        fire_timers(*due, now);
    }
}

void leave_hypervisor() {
    Pcpu& self = Pcpu::self();
    for (;;) {
        const std::uint64_t now = CntpctEl0::read();
        if (now >= deadline()) reach_deadline(now);
        if (now >= next_timer_of(self)) expire_timers(self);
        if (__atomic_exchange_n(&self.resched, 0u, __ATOMIC_ACQUIRE) != 0 || self.current == nullptr ||
            self.current->reasons != 0 || now >= self.slice_end)
            choose(self);
        if (self.current != nullptr) {
            Vcpu& v = *self.current;
            if (self.loaded != &v) {
                unload(self, &v);
                load(self, v);
            }
            // One moment decides for both: a timer due by `now` is raised here, a later one is programmed below.
            const std::uint64_t entry = CntpctEl0::read();
            if (entry >= deadline()) continue;  // it came while the vCPU was loaded: maybe for this very one
            if (v.ptimer.asserted(entry - v.cntvoff)) retime(v);
            if (v.kicked) {
                v.kicked = false;  // first: a kick from now on is not lost
                gic_sync(v);
            }
            if (v.gic_synced) flush_world(v);
            program_timer(self, v, entry);
            return;
        }
        // Idle. A control vCPU's state stays loaded (nobody else runs it) unless it is off: whoever turns it on again
        // waits for its registers to be in memory. A guest's goes there at once.
        if (self.loaded != nullptr &&
            (!self.loaded->control || (self.loaded->reasons & (Vcpu::Off | Vcpu::Paused)) != 0))
            unload(self, nullptr);
        program_idle_timer(self);
        if (__atomic_load_n(&self.resched, __ATOMIC_ACQUIRE) == 0) wfi();
        handle_interrupts();
    }
}

}  // namespace proa::hv
