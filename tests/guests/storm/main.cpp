#include "tests/guests/runtime/random.hpp"
#include "tests/guests/storm/storm.hpp"

namespace guest {
namespace storm {

Settings settings;
std::uint32_t bad_count;
bool split_eoi[kMaxCpus];

namespace {

std::uint32_t running;

void irq(Frame&) {
    const std::uint32_t intid = acknowledge();
    if (intid >= kSpurious) return;
    watch_counter();
    if (!tick_irq(intid) && !token_irq(intid) && !drill_irq(intid))
        bad("STORM BAD interrupt {} nobody asked for", intid);
    end_of_interrupt(intid);
    if (split_eoi[cpu_index()]) deactivate(intid);
}

// Some sleep, some spinning: an interrupt must find both.
void pass_time(Random& random) {
    if (random.one_in(2)) return wfi();
    const std::uint64_t end = counter() + settings.period / 4;
    while (counter() < end) watch_counter();
}

void prepare_cpu() {
    gic_init_cpu();
    start_ticks();
    unmask_irqs();
    __atomic_fetch_add(&running, 1, __ATOMIC_RELEASE);
}

void secondary(unsigned cpu) {
    Random random(cpu);
    prepare_cpu();
    for (;;) {
        pass_time(random);
        watch_counter();
        check_ticks();
    }
}

void first_cpu() {
    Random random(99);
    const std::uint64_t second = frequency();
    std::uint64_t next_report = counter() + second, next_drill = counter() + second / 4, drill = 0, reports = 0;
    for (;;) {
        pass_time(random);
        watch_counter();
        check_ticks();
        check_tokens();
        if (settings.drills && counter() >= next_drill) {
            run_drills(drill++);
            next_drill = counter() + second / 4;
        }
        if (counter() < next_report) continue;
        next_report = counter() + second;
        const std::uint64_t late = worst_lateness() * 1'000'000 / second;
        print(bad_count == 0 ? "STORM ok n={} ticks={} hops={} drills={} late_us={}"
                             : "STORM FAILED n={} ticks={} hops={} drills={} late_us={}",
              ++reports, total_ticks(), total_hops(), drill, late);
        if (settings.seconds != 0 && reports >= settings.seconds) return;
    }
}

}  // namespace
}  // namespace storm

void guest_main() {
    using namespace storm;
    const std::uint64_t hz = frequency(), ms = hz / 1000;
    settings = {hz / setting("hz", 1000),        hz / setting("phz", 100),
                setting("jump_ms", 10'000) * ms, setting("patience_ms", 10'000) * ms,
                setting("seconds", 0),           setting("drills", 1) != 0};
    gic_init();
    prepare_drills();
    on_irq(irq);
    print("STORM start cpus={} hz={} phz={}", machine().cpus, hz / settings.period,
          hz / settings.physical_period);
    for (unsigned i = 1; i < machine().cpus; ++i)
        if (start_cpu(i, secondary) != 0) fail("CPU_ON");
    prepare_cpu();
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) != machine().cpus) relax();
    start_tokens();
    first_cpu();
    mask_irqs();
    print("STORM end bad={}", bad_count);
}

}  // namespace guest
