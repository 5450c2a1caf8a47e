// Pure: is the other side alive? Heartbeats come every `every`; silence of `misses` times that raises suspicion, never a single
// lost one. Suspicion only makes the backup ask the witness: a wrong one costs a question, not a second copy.
#pragma once
#include <chrono>
#include <cstdint>

namespace proa::remus {

struct DetectorPolicy {
    std::chrono::milliseconds every{100};
    unsigned misses = 8;
};

class FailureDetector {
  public:
    using Clock = std::chrono::steady_clock;
    FailureDetector(DetectorPolicy p, Clock::time_point now) : policy_(p), last_(now), looked_(now) {}
    void beat(Clock::time_point now);
    // To be called about every `every`. A caller that was itself held up (its own looks are late) grants the silence that long
    // again: a loaded backup doesn't suspect a healthy primary.
    bool suspects(Clock::time_point now);
    std::chrono::milliseconds silence(Clock::time_point now) const;

  private:
    DetectorPolicy policy_;
    Clock::time_point last_, looked_;
};

}  // namespace proa::remus
