// storm: timers and interrupts that must neither be lost nor come twice, whatever happens to the machine below: preemption,
// overcommitment, pause, a move to another host. Settings: hz, phz (ticks a second of the virtual and the physical timer),
// jump_ms (most the counter may leap between two looks), patience_ms (after which an interrupt counts as lost), drills,
// seconds (0: for ever).
#pragma once
#include <cstdint>

#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/cpu.hpp"
#include "tests/guests/runtime/gic.hpp"
#include "tests/guests/runtime/timer.hpp"

namespace guest::storm {

struct Settings {
    std::uint64_t period, physical_period, jump, patience, seconds;  // counter ticks but for seconds
    bool drills;
};
extern Settings settings;

extern std::uint32_t bad_count;
template <class... A>
void bad(const char* format, A... args) {
    // The first few tell the story; a broken timer would say it a thousand times a second.
    if (__atomic_fetch_add(&bad_count, 1, __ATOMIC_RELAXED) < 20) print(format, args...);
}

// ticks.cpp: periodic timers on every CPU.
void start_ticks();
bool tick_irq(std::uint32_t intid);  // true: it was a timer's
void check_ticks();                  // none is overdue
std::uint64_t total_ticks();
std::uint64_t worst_lateness();  // ticks of the counter, since the last call

// counter_watch.cpp: the counter itself.
void watch_counter();

// tokens.cpp: SGIs handed round.
inline constexpr std::uint32_t kTokenSgi = 1, kSlowTokenSgi = 2, kBroadcastSgi = 3;
void start_tokens();  // CPU 0, when all run
bool token_irq(std::uint32_t intid);
void forward_parked_tokens();  // from a tick
void check_tokens();           // CPU 0
std::uint64_t total_hops();

// drills.cpp: SPIs: edge, level, priorities, nesting, activation; one after the other on CPU 0.
inline constexpr std::uint32_t kFirstDrillSpi = 84, kDrillSpis = 8;  // unused on virt
void prepare_drills();
bool drill_irq(std::uint32_t intid);
void run_drills(std::uint64_t round);

// EOImode as this CPU has it; irq() ends interrupts accordingly.
extern bool split_eoi[kMaxCpus];

}  // namespace guest::storm
