// memory: rewrites and verifies pages in random order, each stamped with its number and generation, on every vCPU; and holds
// patterns in all registers across preemptions and moves. Settings: mib (all there is), seed. Once a second MEMORY ok, or
// MISMATCH and where.
#include <string.h>

#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/cpu.hpp"
#include "tests/guests/runtime/random.hpp"
#include "tests/guests/runtime/registers.hpp"

namespace guest {
namespace {

constexpr std::uint64_t kWords = 512;
std::uint64_t base, pages;
std::uint32_t* generations;  // in memory itself, in front of the pages
std::uint64_t written, verified, held;
std::uint32_t mismatches;
bool filled[kMaxCpus];

std::uint64_t word(std::uint64_t page, std::uint32_t generation, std::uint64_t at) {
    std::uint64_t v = (page << 32 | generation) * 0x9e37'79b9'7f4a'7c15 + at * 0xbf58'476d'1ce4'e5b9;
    return v ^ v >> 29;
}

void write_page(std::uint64_t page) {
    auto* p = reinterpret_cast<std::uint64_t*>(base + page * 4096);
    const std::uint32_t g = ++generations[page];
    for (std::uint64_t i = 0; i < kWords; ++i) p[i] = word(page, g, i);
    __atomic_fetch_add(&written, 1, __ATOMIC_RELAXED);
}

void verify_page(std::uint64_t page) {
    const auto* p = reinterpret_cast<const std::uint64_t*>(base + page * 4096);
    const std::uint32_t g = generations[page];
    for (std::uint64_t i = 0; i < kWords; ++i) {
        if (p[i] == word(page, g, i)) continue;
        if (__atomic_fetch_add(&mismatches, 1, __ATOMIC_RELAXED) < 20) {
            std::uint32_t old = 0;  // a page that lost a write shows an earlier generation
            for (std::uint32_t back = 1; back < 64 && back <= g && old == 0; ++back)
                if (p[i] == word(page, g - back, i)) old = back;
            print("MISMATCH page {x} word {}: {x}, not {x} (generation {}, {} behind)", base + page * 4096, i,
                  p[i], word(page, g, i), g, old);
        }
        return;
    }
    __atomic_fetch_add(&verified, 1, __ATOMIC_RELAXED);
}

void hold(Random& random) {
    if (const char* which = hold_registers(random.next(), 20'000)) {
        if (__atomic_fetch_add(&mismatches, 1, __ATOMIC_RELAXED) < 20)
            print("MISMATCH register {} on CPU {} changed", which, cpu_index());
    }
    __atomic_fetch_add(&held, 1, __ATOMIC_RELAXED);
}

// Pages n with n % cpus == cpu are this CPU's.
void work(unsigned cpu) {
    const unsigned n = machine().cpus;
    Random random(setting("seed", 1) + cpu);
    for (std::uint64_t p = cpu; p < pages; p += n) write_page(p);
    __atomic_store_n(&filled[cpu], true, __ATOMIC_RELEASE);
    const std::uint64_t mine = pages / n;
    std::uint64_t next = counter() + frequency(), reports = 0,
                  pause = setting("pause_us", 0) * frequency() / 1'000'000;
    for (;;) {
        for (unsigned i = 0; i < 8; ++i) {
            const std::uint64_t page = random.below(mine) * n + cpu;
            verify_page(page);
            if (random.one_in(2)) write_page(page);
        }
        hold(random);
        for (const std::uint64_t end = counter() + pause; counter() < end;) relax();
        if (cpu != 0 || counter() < next) continue;
        next = counter() + frequency();
        bool all = true;
        for (unsigned c = 0; c < n; ++c) all = all && __atomic_load_n(&filled[c], __ATOMIC_ACQUIRE);
        if (!all) continue;
        print(mismatches == 0 ? "MEMORY ok n={} written={} verified={} held={}"
                              : "MEMORY FAILED n={} written={} verified={} held={}",
              ++reports, written, verified, held);
    }
}

}  // namespace

void guest_main() {
    const FreeRam free = free_ram();
    std::uint64_t size = setting("mib", 1 << 20) << 20;
    if (size > free.size) size = free.size;
    pages = size / (4096 + sizeof(std::uint32_t)) - 1;
    generations = reinterpret_cast<std::uint32_t*>(free.base);
    base = (free.base + pages * sizeof(std::uint32_t) + 4095) & ~4095ull;
    memset(generations, 0, pages * sizeof(std::uint32_t));
    print("MEMORY start cpus={} pages={} registers={}", machine().cpus, pages, register_sets());
    for (unsigned i = 1; i < machine().cpus; ++i)
        if (start_cpu(i, work) != 0) fail("CPU_ON");
    work(0);
}

}  // namespace guest
