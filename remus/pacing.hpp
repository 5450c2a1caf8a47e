// Pure: when to end an epoch. Fixed: every `interval`. Adaptive: soon while held output waits, seldom while nothing does, within
// `max_lag` (how old the backup's copy may become) and `max_overhead` (the share of time the guest may be stopped).
#pragma once
#include <chrono>
#include <cstdint>

namespace proa::remus {

using Seconds = std::chrono::duration<double>;

struct PacingPolicy {
    bool adaptive = false;
    Seconds interval{0.025};  // fixed; adaptive: the shortest
    Seconds max_lag{0.2};
    double max_overhead = 0.1;  // 0 ... 1
};

class Pacing {
  public:
    explicit Pacing(PacingPolicy p) : policy_(p) {}
    // How long after the last pause began the next one should. `output_waits`: frames are held now.
    Seconds next(bool output_waits) const;
    // What the last checkpoint cost: the pause, and pause to acknowledgement.
    void after(Seconds pause, Seconds until_ack);

  private:
    PacingPolicy policy_;
    Seconds pause_{0}, ack_{0};  // smoothed
};

}  // namespace proa::remus
