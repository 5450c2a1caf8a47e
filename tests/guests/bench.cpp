// bench: what leaving the guest costs, in nanoseconds by the guest's own counter. Runs all of it once, then once more for each
// line typed at the console, e.g. when the host has armed its dirty log: BENCH name=ns ..., then BENCH ready. A line `q` ends it.
// Settings: n (round trips a measurement), pages (of the first-write measurement).
#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/cpu.hpp"
#include "tests/guests/runtime/gic.hpp"
#include "tests/guests/runtime/psci.hpp"
#include "tests/guests/runtime/timer.hpp"

namespace guest {
namespace {

std::uint64_t rounds, pages, first_page;
unsigned pinged, ponged, timer_fired;

void irq(Frame&) {
    const std::uint32_t intid = acknowledge();
    if (intid >= kSpurious) return;
    if (intid == kVirtualTimer) {
        VirtualTimer::control(0);
        __atomic_store_n(&timer_fired, 1u, __ATOMIC_RELEASE);
    } else if (cpu_index() != 0) {
        __atomic_fetch_add(&pinged, 1, __ATOMIC_RELEASE);
        send_sgi(1, machine().mpidr[0]);
    } else {
        __atomic_fetch_add(&ponged, 1, __ATOMIC_RELEASE);
    }
    end_of_interrupt(intid);
}

void answer_pings(unsigned) {
    gic_init_cpu();
    unmask_irqs();
    for (;;) relax();
}

std::uint64_t nanoseconds(std::uint64_t ticks, std::uint64_t of) {
    return ticks * 1'000'000'000 / frequency() / of;
}

// The best of five batches: what is measured is the path, not who else had the CPU.
template <class F>
void measure(const char* name, std::uint64_t n, F&& once) {
    std::uint64_t best = ~0ull;
    for (unsigned batch = 0; batch < 5; ++batch) {
        const std::uint64_t start = counter();
        for (std::uint64_t i = 0; i < n; ++i) once();
        const std::uint64_t took = counter() - start;
        best = took < best ? took : best;
    }
    print("BENCH {} {}", name, nanoseconds(best, n));
}

void round_trips() {
    measure("hvc", rounds, [] { psci(kPsciVersion); });
    measure("gicd_read", rounds, [] { (void)in32(kGicd + gicd::kTyper); });
    measure("trapped_register", rounds, [] { (void)READ_REG("id_aa64mmfr0_el1"); });
    measure("physical_counter", rounds, [] { (void)READ_REG("cntpct_el0"); });
    // A device that nobody has started ignores its doorbell: the path to the event, without the work behind it.
    measure("virtio_doorbell", rounds, [] { out32(kVirtio + 0x50, 0); });
    measure("virtio_status_latch", rounds, [] { (void)in32(kVirtio + 0x60); });
    measure("mmio_user_space", rounds / 20 + 1, [] { (void)in32(kUart + 0x30); });
}

void ipis() {
    if (machine().cpus < 2) return;
    measure("ipi_round_trip", rounds / 20 + 1, [] {
        const unsigned before = __atomic_load_n(&ponged, __ATOMIC_ACQUIRE);
        send_sgi(1, machine().mpidr[1]);
        while (__atomic_load_n(&ponged, __ATOMIC_ACQUIRE) == before) relax();
    });
}

// From the moment a timer was due until its handler has run and WFI is left.
void timer_wake() {
    constexpr unsigned kTimes = 50;
    std::uint64_t late[kTimes];
    enable_irq(kVirtualTimer);
    for (unsigned i = 0; i < kTimes; ++i) {
        const std::uint64_t due = counter() + frequency() / 1000;
        timer_fired = 0;
        VirtualTimer::compare(due);
        VirtualTimer::control(kTimerEnable);
        for (;;) {  // masked around the look, or the interrupt slips in before the WFI that waits for it
            mask_irqs();
            if (__atomic_load_n(&timer_fired, __ATOMIC_ACQUIRE) != 0) break;
            wfi();
            unmask_irqs();
            isb();
        }
        unmask_irqs();
        const std::uint64_t l = counter() - due;
        unsigned at = i;
        for (; at > 0 && late[at - 1] > l; --at) late[at] = late[at - 1];
        late[at] = l;
    }
    print("BENCH timer_wake_p50 {}", nanoseconds(late[kTimes / 2], 1));
    print("BENCH timer_wake_p98 {}", nanoseconds(late[kTimes - 2], 1));
}

// One store a page, pages touched before: the first of them since the log was armed costs what tracking costs.
std::uint64_t write_pages() {
    const std::uint64_t start = counter();
    for (std::uint64_t p = 0; p < pages; ++p)
        *reinterpret_cast<volatile std::uint64_t*>(first_page + p * 4096) = start;
    return nanoseconds(counter() - start, pages);
}

void writes() {
    print("BENCH first_write {}", write_pages());
    std::uint64_t best = ~0ull;
    for (unsigned i = 0; i < 5; ++i) {
        const std::uint64_t t = write_pages();
        best = t < best ? t : best;
    }
    print("BENCH next_write {}", best);
}

// Waits for a line; its first character.
int command() {
    int first = -1;
    for (;;) {
        const int c = console_getc();
        if (c == '\n' || c == '\r') return first;
        if (first < 0) first = c;
        if (c >= 0) continue;
        VirtualTimer::compare(counter() + frequency() / 50);
        VirtualTimer::control(kTimerEnable);
        wfi();
    }
}

}  // namespace

void guest_main() {
    const FreeRam free = free_ram();
    rounds = setting("n", 2000);
    pages = setting("pages", 8192);
    if (pages * 4096 > free.size) pages = free.size / 4096;
    first_page = free.base;
    gic_init();
    gic_init_cpu();
    on_irq(irq);
    if (machine().cpus > 1 && start_cpu(1, answer_pings) != 0) fail("CPU_ON");
    unmask_irqs();
    enable_irq(kVirtualTimer);
    print("BENCH start cpus={} pages={} hz={}", machine().cpus, pages, frequency());
    (void)write_pages();
    for (;;) {
        writes();
        round_trips();
        ipis();
        timer_wake();
        print("BENCH ready");
        if (command() == 'q') return;
    }
}

}  // namespace guest
