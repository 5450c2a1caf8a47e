// When to stop copying. Pure: a round's facts go in, what to do next comes out. Pre-copy converges while each round
// leaves less to send than the last; the guest is stopped when the predicted downtime meets the target and another
// round would not shorten it by much.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "dirtylog/rate.hpp"

namespace proa::migrate {

using Seconds = std::chrono::duration<double>;

struct PrecopyPolicy {
    Seconds downtime{0.3};
    bool auto_converge = false;
    bool give_up = false;  // when it does not converge: give up instead of stopping the guest anyway
    unsigned max_rounds = 30;
    unsigned min_gain_pages = 64;  // another round must save at least this much,
    Seconds min_gain{0.005};       // and this much of the downtime
    Seconds switch_cost{0.03};     // what stopping, state and starting cost beside the pages
};

struct RoundFacts {
    std::uint64_t pages_sent = 0;  // this round, zero pages included
    std::uint64_t pages_zero = 0;  // of them
    std::uint64_t wire_bytes = 0;
    Seconds took{0};
    std::uint64_t pages_dirty = 0;  // left after it
};

enum class Verdict : std::uint8_t { CopyAgain, StopGuest, Throttle, GiveUp };

class Precopy {
  public:
    explicit Precopy(const PrecopyPolicy& p) : policy_(p) {}
    Verdict after_round(const RoundFacts& f);
    Seconds predicted_downtime() const { return predicted_; }
    double dirty_bytes_per_second() const { return dirty_.bytes_per_second(); }
    double wire_bytes_per_second() const { return bandwidth_; }
    unsigned rounds() const { return rounds_; }
    unsigned throttle() const { return throttle_; }        // percent asked for by the last Throttle
    const std::string& reason() const { return reason_; }  // why it would not converge; empty if it does

  private:
    bool another_pays(std::uint64_t pages_dirty) const;

    PrecopyPolicy policy_;
    unsigned rounds_ = 0, stuck_ = 0, throttle_ = 0;
    std::uint64_t last_dirty_ = ~0ull;
    double bandwidth_ = 0, bytes_per_page_ = 4096;
    dirtylog::DirtyRate dirty_;
    Seconds predicted_{0};
    std::string reason_;
};

// Remaining time for a progress bar: never grows while the work goes on, and does not reach zero before the estimate
// does. An estimate above what is shown makes the clock run slower, not backwards.
class Eta {
  public:
    Seconds update(Seconds estimate, Seconds elapsed_since_last) {
        if (first_ || estimate <= shown_) {
            shown_ = estimate;
        } else if (estimate > Seconds(0)) {
            shown_ -= elapsed_since_last * (shown_ / estimate);
            if (shown_ < Seconds(0)) shown_ = Seconds(0);
        }
        first_ = false;
        return shown_;
    }

  private:
    Seconds shown_{0};
    bool first_ = true;
};

}  // namespace proa::migrate
