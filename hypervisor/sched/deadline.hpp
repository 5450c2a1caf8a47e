// One moment that every pCPU watches: at each exit, before it enters any vCPU, and by its EL2 timer, so that a hung control
// domain can't keep it from coming. What it is for, its handler knows.
#pragma once
#include <cstdint>

namespace proa::hv {

// `handler` runs at EL2 on the pCPU that found that the moment has come, maybe on several, without locks; it must move it.
void on_deadline(void (*handler)(std::uint64_t now));

std::uint64_t deadline();                // physical counter; ~0: none
void set_deadline(std::uint64_t at);     // whoever calls it makes sure that nobody else does at the same time
void reach_deadline(std::uint64_t now);  // the dispatcher: `now` is not before it

}  // namespace proa::hv
