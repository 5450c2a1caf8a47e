#include "tests/guests/hostile/attacks.hpp"
#include "tests/guests/runtime/gic.hpp"
#include "tests/guests/runtime/mmu.hpp"
#include "tests/guests/runtime/timer.hpp"

namespace guest {
namespace hostile {

std::uint64_t scratch(unsigned cpu) {
    return free_ram().base + cpu * kScratchSize;
}

void restore_cpu() {
    mask_irqs();
    VirtualTimer::control(0);
    PhysicalTimer::control(0);
    WRITE_REG("mdscr_el1", 0);
    WRITE_REG("cntkctl_el1", 0);
    isb();
    out32(kGicd + gicd::kCtlr, 1 << 4 | 1 << 1);
    gic_init_cpu();
}

namespace {

constexpr Attack kAttacks[] = {
    {"addresses", anywhere_in_the_address_space},
    {"devices", into_devices},
    {"caches", cache_maintenance},
    {"translation", broken_translation},
    {"registers", system_registers},
    {"instructions", system_instructions},
    {"calls", calls},
    {"sleep", sleep_storms},
    {"gic", interrupt_controller},
    {"virtqueues", virtqueues},
};
constexpr unsigned kCount = sizeof(kAttacks) / sizeof(kAttacks[0]);

struct Run {
    Random* random;
    const Attack* attack;
};

void irq(Frame& f) {
    const std::uint32_t intid = acknowledge();
    if (intid < kSpurious) end_of_interrupt(intid);
    VirtualTimer::control(0);
    PhysicalTimer::control(0);
    f.pstate |= 1 << 7;  // once is enough: whatever raised it may be beyond reach
}

[[noreturn]] void attack_for_ever(unsigned cpu) {
    Random random(setting("seed", 1) * 64 + cpu);
    const std::uint64_t only = setting("only", kCount), rounds = setting("rounds", 0);
    for (std::uint64_t round = 1;; ++round) {
        const Attack& a = kAttacks[only < kCount ? only : random.below(kCount)];
        Run run{&random, &a};
        const bool whole =
            attempt([](void* p) { static_cast<Run*>(p)->attack->run(*static_cast<Run*>(p)->random); }, &run);
        restore_cpu();
        if (cpu == 0) print("HOSTILE round {} {}{}", round, a.name, whole ? "" : " (cut short)");
        if (cpu == 0 && round == rounds) {
            print("HOSTILE end");
            for (;;) wfi();
        }
    }
}

// The last CPU may kill itself: no vectors, no tables, faults in faults.
[[noreturn]] void suicide(unsigned) {
    WRITE_REG("vbar_el1", 0xdead'0000'0000);
    WRITE_REG("ttbr1_el1", 0x7f'ffff'f000);
    WRITE_REG("ttbr0_el1", 0x12'3456'7000);
    isb();
    asm volatile("tlbi vmalle1\n dsb sy\n isb" ::: "memory");
    for (;;) {
    }
}

}  // namespace
}  // namespace hostile

void guest_main() {
    using namespace hostile;
    gic_init();
    gic_init_cpu();
    on_irq(irq);
    const unsigned n = machine().cpus;
    print("HOSTILE start cpus={} seed={}", n, setting("seed", 1));
    for (unsigned i = 1; i < n; ++i)
        start_cpu(i, i + 1 == n && setting("suicide", 0) != 0 ? suicide : attack_for_ever);
    attack_for_ever(0);
}

}  // namespace guest
