#include "migrate/precopy.hpp"

#include <algorithm>
#include <cstdio>

namespace proa::migrate {
namespace {

constexpr double kLeastPerPage = 8, kMostPerPage = 4096 + 64;  // its entry; all of it, with what goes around it

}  // namespace

// A round takes as long as the pages that are left, and leaves what the guest writes meanwhile.
bool Precopy::another_pays(std::uint64_t pages_dirty) const {
    const auto left = static_cast<double>(pages_dirty);
    const Seconds takes = predicted_ - policy_.switch_cost;
    const double gain = left - dirty_.expected_pages(takes.count());
    return gain > policy_.min_gain_pages && gain > left / 4 && takes * (gain / left) > policy_.min_gain;
}

Verdict Precopy::after_round(const RoundFacts& f) {
    ++rounds_;
    // The first round had zero pages to look for, and waited for the destination's memory: no sample beside others.
    if (f.took > Seconds(0) && f.wire_bytes > 0) {
        const double now = static_cast<double>(f.wire_bytes) / f.took.count();
        bandwidth_ = bandwidth_ == 0 || rounds_ == 2 ? now : 0.5 * bandwidth_ + 0.5 * now;
    }
    // Of the first round's pages most may be zero, which says nothing about those that the guest writes; later rounds are those.
    const std::uint64_t counted = rounds_ == 1 ? f.pages_sent - f.pages_zero : f.pages_sent;
    if (counted > 0)
        bytes_per_page_ = std::clamp(static_cast<double>(f.wire_bytes) / static_cast<double>(counted),
                                     kLeastPerPage, kMostPerPage);
    dirty_.sample(f.pages_dirty, f.took.count());
    const double left = static_cast<double>(f.pages_dirty) * bytes_per_page_;
    predicted_ = Seconds(bandwidth_ > 0 ? left / bandwidth_ : 0) + policy_.switch_cost;

    const bool shrinking = f.pages_dirty + policy_.min_gain_pages < last_dirty_ / 4 * 3 || last_dirty_ == ~0ull;
    stuck_ = shrinking ? 0 : stuck_ + 1;
    last_dirty_ = f.pages_dirty;

    // Met. Go on only while rounds still shrink what is left to a visible degree.
    if (predicted_ <= policy_.downtime)
        return shrinking && rounds_ < policy_.max_rounds && another_pays(f.pages_dirty) ? Verdict::CopyAgain
                                                                                        : Verdict::StopGuest;
    if (stuck_ < 2 && rounds_ < policy_.max_rounds) return Verdict::CopyAgain;
    char text[200];
    std::snprintf(text, sizeof(text),
                  "the guest dirties %.1f MiB/s and the link takes %.1f MiB/s: stopping it now would cost %.0f "
                  "ms, the target is %.0f ms",
                  dirty_.bytes_per_second() / 1048576, bandwidth_ / 1048576, predicted_.count() * 1e3,
                  policy_.downtime.count() * 1e3);
    reason_ = text;
    if (policy_.auto_converge && throttle_ < 99) {
        throttle_ = throttle_ == 0 ? 20 : std::min(99u, throttle_ + 10);
        stuck_ = 1;
        return Verdict::Throttle;
    }
    return policy_.give_up ? Verdict::GiveUp : Verdict::StopGuest;
}

}  // namespace proa::migrate
