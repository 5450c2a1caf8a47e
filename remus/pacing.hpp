// Pure: when to end an epoch. Fixed: every `interval`. Adaptive: soon while held output waits, seldom while nothing does, within
// `max_lag` (how old the backup's copy may become) and `max_overhead` (the share of time the guest may be stopped):
//
//   shortest = max(interval, pause / max_overhead)      an epoch is never so short that its pause is too large a share of it
//   longest  = max_lag - pause until acknowledged       the backup's copy is oldest just before the next one is acknowledged
//   output waits: shortest;  else: the longer of the two
//
// Where both can't be had the overhead wins: a guest that can't work isn't helped by a fresh copy of it. There is no growing
// in steps: whoever waits asks again when a frame is held, and the epoch that was to be long ends as soon as it may.
#pragma once
#include <chrono>
#include <cstdint>

namespace proa::remus {

using Seconds = std::chrono::duration<double>;

struct PacingPolicy {
    bool adaptive = false;
    Seconds interval{0.025};  // fixed; adaptive: the shortest
    Seconds max_lag{0.2};
    double max_overhead = 0.1;  // above 0, at most 1
};

class Pacing {
  public:
    explicit Pacing(PacingPolicy p) : policy_(p) {}
    // How long after the last pause began the next one should. `output_waits`: frames are held now; ask again when it changes.
    Seconds next(bool output_waits) const;
    // What the last checkpoint cost: the pause, and pause to acknowledgement.
    void after(Seconds pause, Seconds until_ack);

  private:
    PacingPolicy policy_;
    Seconds pause_{0}, ack_{0};  // rise at once, fall slowly
};

}  // namespace proa::remus
