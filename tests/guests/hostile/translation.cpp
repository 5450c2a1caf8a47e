// Garbage in TTBR0_EL1 and TCR_EL1 while the code runs through TTBR1: the MMU walks tables that are devices, holes, other
// people's addresses or random bits.
#include "tests/guests/hostile/attacks.hpp"
#include "tests/guests/runtime/mmu.hpp"

namespace guest::hostile {

extern "C" std::uint64_t garbage_walk(std::uint64_t ttbr0, std::uint64_t va, std::uint64_t high,
                                      std::uint64_t tcr);

void broken_translation(Random& r) {
    auto* tables = reinterpret_cast<std::uint64_t*>(scratch(cpu_index()));
    for (unsigned i = 0; i < 100; ++i) {
        for (unsigned w = 0; w < 1024; ++w) tables[w] = r.next() | (r.one_in(2) ? 3 : 0);
        if (r.one_in(3)) tables[r.below(512)] = reinterpret_cast<std::uint64_t>(tables) | 3;  // a loop
        const std::uint64_t ttbr =
            r.one_in(2) ? reinterpret_cast<std::uint64_t>(tables) : r.next() & 0xffff'ffff'ffff;
        std::uint64_t tcr = READ_REG("tcr_el1");
        // T0SZ, EPD0, IRGN0, ORGN0, SH0, TG0, and HA/HD; the upper half stays: the code runs through it.
        if (r.one_in(2)) tcr = (tcr & ~0xffffull) | (r.next() & 0xff3f);
        if (r.one_in(4)) tcr |= 3ull << 39;
        garbage_walk(ttbr, r.next() & (r.one_in(2) ? 0xff'ffff'ffff : 0xffff'ffff'ffff), kHighAlias, tcr);
    }
}

}  // namespace guest::hostile
