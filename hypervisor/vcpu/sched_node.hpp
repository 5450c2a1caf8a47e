// What the scheduler (sched/scheduler.hpp) keeps in each vCPU. Only it changes what is here, but for affinity, weight
// and throttle, which the dispatcher sets under its lock.
#pragma once
#include <cstdint>

namespace proa::hv {

inline constexpr std::uint32_t kDefaultWeight = 256;

struct SchedNode {
    enum class State : std::uint8_t { Out, Queued, Running };
    SchedNode* next = nullptr;  // in its queue, by virtual time
    std::uint64_t vtime = 0;
    std::uint64_t affinity = ~0ull;  // pCPUs it may use
    std::uint32_t weight = kDefaultWeight;
    std::uint16_t pcpu = 0;  // whose queue it is in, runs on, or last ran on
    State state = State::Out;
    std::uint8_t throttle = 0;  // percent of each window in which it must not run
    std::uint64_t window = 0, window_used = 0;
};

}  // namespace proa::hv
