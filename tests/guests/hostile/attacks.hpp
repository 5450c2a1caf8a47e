// What a hostile guest tries. Every attack takes its randomness from outside, so that a seed is a run; each survives its own
// exceptions and leaves this CPU able to go on.
#pragma once
#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/cpu.hpp"
#include "tests/guests/runtime/random.hpp"

namespace guest::hostile {

struct Attack {
    const char* name;
    void (*run)(Random&);
};

void anywhere_in_the_address_space(Random& r);  // addresses.cpp
void into_devices(Random& r);
void cache_maintenance(Random& r);
void broken_translation(Random& r);  // translation.cpp
void system_registers(Random& r);    // instructions.cpp
void system_instructions(Random& r);
void calls(Random& r);  // calls.cpp
void sleep_storms(Random& r);
void interrupt_controller(Random& r);  // gic_fuzz.cpp
void virtqueues(Random& r);            // virtqueues.cpp

// Where an attack may scribble: 1 MiB that is not the program's.
std::uint64_t scratch(unsigned cpu);
inline constexpr std::uint64_t kScratchSize = 1 << 20;
void restore_cpu();  // after an attack: interrupt controller, timers, masks

}  // namespace guest::hostile
