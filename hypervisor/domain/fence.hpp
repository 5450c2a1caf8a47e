// The fence: a moment at which a guest stops by itself, whatever has become of user space. Every pCPU watches the earliest
// one (sched/deadline.hpp). A lock of its own, never held for long, makes it settable while a command runs.
#pragma once
#include <cstdint>

#include "hypervisor/domain/guest.hpp"

namespace proa::hv {

void fences_init();

// Any pCPU, no lock needed. 0: none. In the past: fires before the pCPU that sets it enters a guest again.
void set_fence(Guest& g, std::uint64_t at);

// Under Guest::lock. Phase Running and vCPUs unpaused, unless the fence has passed (then life::Fenced is posted): either
// this comes first, and the fence stops what runs, or the fence does, and this is refused.
bool run_unless_fenced(Guest& g);

// Under Guest::lock. The slot has no guest from here on, and no fence: the caller may free what was its domain.
void forget_guest(Guest& g);

}  // namespace proa::hv
