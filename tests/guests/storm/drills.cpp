// What the GIC architecture says about SPIs (IHI 0069, 4), tried on SPIs that no device drives, and on the UART's line.
#include "tests/guests/storm/storm.hpp"

namespace guest::storm {
namespace {

constexpr std::uint32_t kSpi = kFirstDrillSpi;
constexpr std::uint64_t kImsc = kUart + 0x38, kIcr = kUart + 0x44, kDr = kUart;
constexpr std::uint32_t kTransmit = 1 << 5;

struct Spi {
    std::uint32_t count = 0;
    std::uint32_t target = 0;      // CPU that must get it
    bool pend_in_handler = false;  // once more, from its own handler
    bool nest = false;             // let others in, pend the next higher one
};
Spi spis[kDrillSpis];
std::uint32_t uart_count, order[kDrillSpis], ordered;
bool uart_clears;  // the handler clears the cause; else it masks it

std::uint32_t count_of(const std::uint32_t& c) {
    return __atomic_load_n(&c, __ATOMIC_ACQUIRE);
}

// Waits until it came; then it must not come again.
bool wait_count(const char* drill, const std::uint32_t& c, std::uint32_t wanted) {
    const std::uint64_t end = counter() + settings.patience;
    while (count_of(c) < wanted && counter() < end) watch_counter();
    for (const std::uint64_t a_little = counter() + frequency() / 5000; counter() < a_little;) {
    }
    if (count_of(c) == wanted) return true;
    bad("STORM BAD {}: {} interrupts, {} expected", drill, count_of(c), wanted);
    return false;
}

void pend(unsigned n) {
    set_gic_bit(gicd::kSetPending, kSpi + n);
}

void aim(unsigned n, unsigned cpu, bool edge, std::uint8_t priority) {
    enable_irq(kSpi + n, false);  // the configuration of an enabled interrupt may not change (12.9.9)
    set_edge(kSpi + n, edge);
    route(kSpi + n, machine().mpidr[cpu]);
    set_priority(kSpi + n, priority);
    spis[n].count = 0;
    spis[n].target = cpu;
    spis[n].pend_in_handler = spis[n].nest = false;
    dsb();
    enable_irq(kSpi + n);
}

void pended_once(unsigned cpu, bool edge) {
    aim(0, cpu, edge, kDefaultPriority);
    pend(0);
    wait_count(edge ? "edge SPI" : "level SPI, pended by software", spis[0].count, 1);
}

void pended_while_active(unsigned cpu) {
    aim(1, cpu, true, kDefaultPriority);
    spis[1].pend_in_handler = true;
    pend(1);
    wait_count("edge SPI, pended again while active", spis[1].count, 2);
}

void uart_line() {
    enable_irq(kUartIntid, false);
    route(kUartIntid, machine().mpidr[0]);
    set_edge(kUartIntid, false);
    enable_irq(kUartIntid);
    const std::uint32_t before = uart_count;
    uart_clears = false;
    out32(kDr, '\r');  // raises the raw status, and keeps it up until it is cleared
    out32(kImsc, kTransmit);
    if (!wait_count("level line, masked by the handler", uart_count, before + 1)) return;
    uart_clears = true;
    out32(kImsc, kTransmit);
    wait_count("level line, cleared by the handler", uart_count, before + 2);
    out32(kImsc, 0);
    enable_irq(kUartIntid, false);
}

void priority_order() {
    ordered = 0;
    aim(2, 0, true, 0xc0);
    aim(3, 0, true, 0x40);
    aim(4, 0, true, 0x80);
    mask_irqs();
    pend(2), pend(3), pend(4);
    dsb();
    for (unsigned n = 2; n < 5; ++n)
        if (!gic_bit(gicd::kSetPending, kSpi + n)) bad("STORM BAD SPI {} is not pending", kSpi + n);
    unmask_irqs();
    for (unsigned n = 2; n < 5; ++n) wait_count("SPIs of three priorities", spis[n].count, 1);
    if (ordered != 3 || order[0] != 3 || order[1] != 4 || order[2] != 2)
        bad("STORM BAD priorities: {} {} {} were taken in this order, not 3 4 2", order[0], order[1], order[2]);
}

// Each handler pends the next more urgent SPI and is interrupted by it: deeper than a machine has list registers.
void nesting() {
    ordered = 0;
    for (unsigned n = 0; n < 7; ++n) {
        aim(n, 0, true, static_cast<std::uint8_t>(0xe0 - 0x20 * n));
        spis[n].nest = true;
    }
    pend(0);
    for (unsigned n = 0; n < 7; ++n) wait_count("nested SPI", spis[n].count, 1);
    for (unsigned i = 0; i < 7 && ordered == 7; ++i)  // noted on the way out: the most urgent one first
        if (order[i] != 6 - i) return bad("STORM BAD nesting: SPI {} ended as number {}", order[i], i);
}

void masked_by_priority() {
    aim(5, 0, true, 0x90);
    priority_mask(0x80);
    pend(5);
    wait_count("SPI below the priority mask", spis[5].count, 0);
    priority_mask(0xff);
    wait_count("SPI after the mask was lifted", spis[5].count, 1);
}

void disabled_and_cleared() {
    aim(6, 0, true, kDefaultPriority);
    enable_irq(kSpi + 6, false);
    pend(6);
    wait_count("disabled SPI", spis[6].count, 0);
    set_gic_bit(gicd::kClearPending, kSpi + 6);
    enable_irq(kSpi + 6);
    wait_count("SPI whose pending state was cleared", spis[6].count, 0);
    set_gic_bit(gicd::kSetActive, kSpi + 6);
    pend(6);
    wait_count("SPI that software made active", spis[6].count, 0);
    set_gic_bit(gicd::kClearActive, kSpi + 6);
    wait_count("SPI after its deactivation", spis[6].count, 1);
}

// EOImode 1: EOI only drops the priority; until DIR the interrupt is active and can't come again.
void split_end() {
    aim(7, 0, true, kDefaultPriority);
    mask_irqs();
    pend(7);
    std::uint32_t intid = kSpurious;
    const std::uint64_t end = counter() + settings.patience;
    eoi_only_drops(true);
    split_eoi[0] = true;
    while (intid != kSpi + 7 && counter() < end) {
        intid = acknowledge();
        if (intid >= kSpurious || intid == kSpi + 7) continue;
        if (!tick_irq(intid) && !token_irq(intid)) bad("STORM BAD interrupt {} nobody asked for", intid);
        end_of_interrupt(intid);
        deactivate(intid);
    }
    if (intid == kSpi + 7) {
        end_of_interrupt(intid);
        if (!gic_bit(gicd::kSetActive, intid)) bad("STORM BAD SPI is not active between EOI and DIR");
        pend(7);
        unmask_irqs();
        wait_count("active SPI after its priority drop", spis[7].count, 0);
        deactivate(intid);
        wait_count("SPI after DIR", spis[7].count, 1);
    } else {
        bad("STORM BAD SPI {} was pended and can't be acknowledged", kSpi + 7);
    }
    mask_irqs();
    eoi_only_drops(false);
    split_eoi[0] = false;
    unmask_irqs();
}

}  // namespace

void prepare_drills() {
    for (unsigned n = 0; n < kDrillSpis; ++n) aim(n, 0, true, kDefaultPriority), enable_irq(kSpi + n, false);
}

bool drill_irq(std::uint32_t intid) {
    if (intid == kUartIntid) {
        out32(uart_clears ? kIcr : kImsc, uart_clears ? kTransmit : 0);
        __atomic_fetch_add(&uart_count, 1, __ATOMIC_RELEASE);
        return true;
    }
    const unsigned n = intid - kSpi;
    if (intid < kSpi || n >= kDrillSpis) return false;
    Spi& s = spis[n];
    if (cpu_index() != s.target)
        bad("STORM BAD SPI {} came to CPU {}, its target is {}", intid, cpu_index(), s.target);
    if (s.pend_in_handler) {
        s.pend_in_handler = false;
        if (!gic_bit(gicd::kSetActive, intid)) bad("STORM BAD SPI {} is not active in its handler", intid);
        pend(n);
        if (!gic_bit(gicd::kSetPending, intid)) bad("STORM BAD active SPI {} does not become pending", intid);
    }
    if (s.nest && n + 1 < 7) {
        pend(n + 1);
        unmask_irqs();
        const std::uint64_t end = counter() + settings.patience;
        while (count_of(spis[n + 1].count) == 0 && counter() < end) {
        }
        mask_irqs();
    }
    if (ordered < kDrillSpis) order[ordered++] = n;
    __atomic_fetch_add(&s.count, 1, __ATOMIC_RELEASE);
    return true;
}

void run_drills(std::uint64_t round) {
    const auto cpu = static_cast<unsigned>(round % machine().cpus);
    pended_once(cpu, true);
    pended_once(cpu, false);
    pended_while_active(cpu);
    uart_line();
    priority_order();
    nesting();
    masked_by_priority();
    disabled_and_cleared();
    split_end();
    prepare_drills();
}

}  // namespace guest::storm
