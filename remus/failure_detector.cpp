#include "remus/failure_detector.hpp"

#include <algorithm>

namespace proa::remus {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

void FailureDetector::beat(Clock::time_point now) {
    last_ = std::max(last_, now);
    looked_ = std::max(looked_, now);
}

// Beats queue up in the socket while the caller sleeps: after a pause it may look before it has read them. So what a look
// is late by is no silence of the other side's. It moves `last_`, and silence() with it.
bool FailureDetector::suspects(Clock::time_point now) {
    if (now > looked_) {
        const auto late = now - looked_ - policy_.every;
        if (late > Clock::duration::zero()) last_ = std::min(now, last_ + late);
        looked_ = now;
    }
    return now - last_ >= policy_.every * policy_.misses;
}

milliseconds FailureDetector::silence(Clock::time_point now) const {
    return std::max(milliseconds::zero(), duration_cast<milliseconds>(now - last_));
}

}  // namespace proa::remus
