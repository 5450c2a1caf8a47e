// smp: brings up every vCPU through PSCI, checks each one's MPIDR, sends an SGI between all pairs, races two vCPUs for the
// start of a third, and powers off. SMP ok, or SMP BAD and why.
#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/cpu.hpp"
#include "tests/guests/runtime/gic.hpp"
#include "tests/guests/runtime/psci.hpp"

namespace guest {
namespace {

constexpr std::uint64_t kPatience = 60;  // seconds: an overcommitted host is slow, a lost SGI is for ever
unsigned bad;
unsigned arrived, paired, starts;
unsigned got[kMaxCpus][kMaxCpus];  // [receiver][sender]; the SGI's number is the sender's
unsigned strange_irqs;

template <class... A>
void complain(const char* format, A... args) {
    __atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
    print(format, args...);
}

void irq(Frame&) {
    const std::uint32_t intid = acknowledge();
    if (intid >= kSpurious) return;
    if (intid < machine().cpus)
        __atomic_fetch_add(&got[cpu_index()][intid], 1, __ATOMIC_RELEASE);
    else
        __atomic_fetch_add(&strange_irqs, 1, __ATOMIC_RELAXED);
    end_of_interrupt(intid);
}

template <class F>
bool wait_for(F&& ready) {
    const std::uint64_t end = counter() + kPatience * frequency();
    while (!ready())
        if (relax(); counter() > end) return false;
    return true;
}

void all_pairs(unsigned self) {
    const unsigned n = machine().cpus;
    for (unsigned round = 1; round <= 20; ++round)
        for (unsigned to = 0; to < n; ++to) {
            send_sgi(self, machine().mpidr[to]);  // to itself, too
            if (!wait_for([&] { return __atomic_load_n(&got[to][self], __ATOMIC_ACQUIRE) == round; }))
                return complain("SMP BAD SGI from {} to {}: {} arrived, {} sent", self, to, got[to][self],
                                round);
        }
}

void secondary(unsigned cpu) {
    if ((READ_REG("mpidr_el1") & 0xff'00ff'ffff) != machine().mpidr[cpu])
        complain("SMP BAD vCPU {} has MPIDR {x}", cpu, READ_REG("mpidr_el1"));
    gic_init_cpu();
    unmask_irqs();
    __atomic_fetch_add(&arrived, 1, __ATOMIC_RELEASE);
    wait_for([] { return __atomic_load_n(&arrived, __ATOMIC_ACQUIRE) == machine().cpus; });
    all_pairs(cpu);
    __atomic_fetch_add(&paired, 1, __ATOMIC_RELEASE);
    wait_for([] { return __atomic_load_n(&paired, __ATOMIC_ACQUIRE) == machine().cpus; });  // others still send
}

void note_start(unsigned) {
    __atomic_fetch_add(&starts, 1, __ATOMIC_RELEASE);
}

bool is_off(unsigned cpu) {
    return psci(kAffinityInfo, machine().mpidr[cpu], 0) == 1;
}

// Two callers, one vCPU that is off: one of them starts it, the other is told so (PSCI 5.6.1).
unsigned race_round, race_done;
std::int64_t race_answer[2];
constexpr unsigned kRaces = 100;

void racer(unsigned cpu) {
    for (unsigned r = 1; r <= kRaces; ++r) {
        if (!wait_for([&] { return __atomic_load_n(&race_round, __ATOMIC_ACQUIRE) >= r; })) return;
        race_answer[cpu] = start_cpu(2, note_start);
        __atomic_fetch_add(&race_done, 1, __ATOMIC_RELEASE);
    }
}

void race() {
    starts = 0;
    start_cpu(1, racer);
    for (unsigned r = 1; r <= kRaces; ++r) {
        if (!wait_for([] { return is_off(2); })) return complain("SMP BAD vCPU 2 never went off");
        __atomic_store_n(&race_round, r, __ATOMIC_RELEASE);
        race_answer[0] = start_cpu(2, note_start);
        if (!wait_for([&] { return __atomic_load_n(&race_done, __ATOMIC_ACQUIRE) == r; }))
            return complain("SMP BAD the race's other side hangs in CPU_ON");
        wait_for([&] { return __atomic_load_n(&starts, __ATOMIC_ACQUIRE) >= r; });
        const std::int64_t a = race_answer[0], b = race_answer[1];
        // The loser may also come so late that the vCPU is off again: then both started it.
        const bool both = a == kSuccess && b == kSuccess;
        const bool one = (a == kSuccess) != (b == kSuccess) && (a + b == kAlreadyOn || a + b == kOnPending);
        if (both) starts -= wait_for([&] { return __atomic_load_n(&starts, __ATOMIC_ACQUIRE) > r; }) ? 1 : 0;
        if ((!both && !one) || starts != r)
            return complain("SMP BAD race: answers {} {}, {} starts of {}", a, b, starts, r);
    }
}

}  // namespace

void guest_main() {
    const unsigned n = machine().cpus;
    gic_init();
    gic_init_cpu();
    on_irq(irq);
    unmask_irqs();
    print("SMP start cpus={} psci={x}", n, psci(kPsciVersion));
    arrived = 1;
    for (unsigned i = 1; i < n; ++i) {
        if (!is_off(i)) complain("SMP BAD vCPU {} is not off", i);
        if (const std::int64_t e = start_cpu(i, secondary); e != kSuccess)
            complain("SMP BAD CPU_ON {}: {}", i, e);
    }
    if (!wait_for([n] { return __atomic_load_n(&arrived, __ATOMIC_ACQUIRE) == n; }))
        complain("SMP BAD only {} of {} vCPUs came", arrived, n);
    all_pairs(0);
    __atomic_fetch_add(&paired, 1, __ATOMIC_RELEASE);
    if (!wait_for([n] { return __atomic_load_n(&paired, __ATOMIC_ACQUIRE) == n; }))
        complain("SMP BAD only {} of {} vCPUs finished", paired, n);
    if (strange_irqs != 0) complain("SMP BAD {} interrupts nobody sent", strange_irqs);
    if (psci(kCpuOn, 0xff00, 0, 0) != kInvalidParameters)
        complain("SMP BAD CPU_ON of a vCPU that does not exist");
    if (psci(kCpuOn, machine().mpidr[0], kRam, 0) != kAlreadyOn) complain("SMP BAD CPU_ON of itself");
    for (unsigned i = 1; i < n; ++i)
        if (!wait_for([i] { return is_off(i); })) complain("SMP BAD vCPU {} did not go off", i);
    if (n > 2) race();
    print(bad == 0 ? "SMP ok cpus={}" : "SMP FAILED cpus={}", n);
}

}  // namespace guest
