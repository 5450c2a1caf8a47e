#include "tests/guests/storm/storm.hpp"

namespace guest::storm {
namespace {

struct alignas(64) PerCpu {
    std::uint64_t last = 0;
};
PerCpu per_cpu[kMaxCpus];
std::uint64_t newest;  // any CPU's last look

}  // namespace

// May be interrupted by itself: `last` only grows, and a nested look is a later one.
void watch_counter() {
    std::uint64_t& last = per_cpu[cpu_index()].last;
    const std::uint64_t mine = __atomic_load_n(&last, __ATOMIC_RELAXED),
                        others = __atomic_load_n(&newest, __ATOMIC_ACQUIRE);
    const std::uint64_t now = counter();
    if (now < mine) bad("STORM BAD CPU {}: the counter went back by {}", cpu_index(), mine - now);
    if (now < others) bad("STORM BAD CPU {}: its counter is {} behind another's", cpu_index(), others - now);
    if (mine != 0 && now > mine && now - mine > settings.jump)
        bad("STORM BAD CPU {}: the counter jumped by {} ms", cpu_index(), (now - mine) * 1000 / frequency());
    if (now > __atomic_load_n(&last, __ATOMIC_RELAXED)) __atomic_store_n(&last, now, __ATOMIC_RELAXED);
    std::uint64_t seen = others;
    while (seen < now &&
           !__atomic_compare_exchange_n(&newest, &seen, now, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
}

}  // namespace guest::storm
