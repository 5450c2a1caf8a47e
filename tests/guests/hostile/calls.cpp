// HVC and SMC with any function identifier and arguments; sleeping, very often.
#include "tests/guests/hostile/attacks.hpp"
#include "tests/guests/runtime/gic.hpp"
#include "tests/guests/runtime/psci.hpp"
#include "tests/guests/runtime/timer.hpp"

namespace guest::hostile {
namespace {

// These end the attack, and are tested elsewhere: CPU_OFF, SYSTEM_OFF, SYSTEM_RESET, SYSTEM_RESET2; CPU_SUSPEND sleeps.
bool ends_us(std::uint64_t fn) {
    const std::uint64_t n = fn & 0xbfff'ffff;
    return n == 0x8400'0001 || n == 0x8400'0002 || n == 0x8400'0008 || n == 0x8400'0009 || n == 0x8400'0012;
}

struct Call {
    std::uint64_t fn, a, b, c;
    bool smc;
};

void sleep_until(std::uint64_t at, Random& r) {
    VirtualTimer::compare(at);
    VirtualTimer::control(kTimerEnable);
    enable_irq(kVirtualTimer);
    isb();
    switch (r.below(3)) {
        case 0: wfi(); break;
        case 1: psci(0xc400'0001, r.next() & 0xffff, r.next(), r.next()); break;
        default: asm volatile("sevl\n wfe\n wfe"); break;
    }
    VirtualTimer::control(0);
}

}  // namespace

void calls(Random& r) {
    for (unsigned i = 0; i < 300; ++i) {
        Call c{r.next(), r.next(), r.next(), r.next(), r.one_in(2)};
        if (!r.one_in(4)) c.fn = (r.one_in(2) ? 0x8400'0000 : 0xc400'0000) + r.below(32);
        if (r.one_in(6)) c.fn = 0x8000'0000 + r.below(0x1'0000);
        if (r.one_in(3)) c.a = r.below(16);
        if (r.one_in(5)) c.fn |= r.next() << 32;  // W0 is the identifier, whatever X0's upper half holds
        if (ends_us(c.fn & 0xffff'ffff)) continue;
        // CPU_ON of a CPU that is off would run rubbish: welcome, but this program's own are on.
        (void)attempt(
            [](void* p) {
                const auto& k = *static_cast<Call*>(p);
                (k.smc ? smc : hvc)(k.fn, k.a, k.b, k.c);
            },
            &c);
    }
}

void sleep_storms(Random& r) {
    // Another CPU may have switched the interrupt controller off: then WFI is for ever. The boot CPU must go on.
    const bool safe = machine().cpus == 1 || cpu_index() != 0;
    for (unsigned i = 0; i < 200; ++i) {
        if (safe)
            sleep_until(counter() + r.below(frequency() / 20'000), r);
        else
            asm volatile("sevl\n wfe");
    }
}

}  // namespace guest::hostile
