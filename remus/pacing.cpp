#include "remus/pacing.hpp"

#include <algorithm>

namespace proa::remus {
namespace {

constexpr double kLeastOverhead = 0.001;  // what a policy of 0 means: a division needs something
constexpr double kFall = 0.25;            // of the difference, a checkpoint

// One slow checkpoint is believed at once, a fast one only when others confirm it: both limits are promises.
Seconds rise_or_fall(Seconds was, Seconds now) {
    now = std::max(now, Seconds::zero());
    return now > was ? now : was + (now - was) * kFall;
}

}  // namespace

Seconds Pacing::next(bool output_waits) const {
    if (!policy_.adaptive) return policy_.interval;
    const Seconds shortest =
        std::max(policy_.interval, pause_ / std::max(policy_.max_overhead, kLeastOverhead));
    const Seconds longest = policy_.max_lag - ack_;
    return output_waits ? shortest : std::max(shortest, longest);
}

void Pacing::after(Seconds pause, Seconds until_ack) {
    pause_ = rise_or_fall(pause_, pause);
    ack_ = rise_or_fall(ack_, until_ack);
}

}  // namespace proa::remus
