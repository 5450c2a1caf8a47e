// How fast a guest dirties memory, from what harvests found. A harvest counts different pages, so the count of a long
// interval flattens out at the working set: for writes spread evenly over W pages at r writes a second,
//   u(t) = W (1 - exp(-r t / W))
// is expected after t seconds. DirtyRate fits r and W to the shortest and the longest of the last intervals.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace proa::dirtylog {

class DirtyRate {
  public:
    static constexpr std::size_t kRemembered = 8;
    static constexpr double kPageBytes = 4096;

    // `pages` different pages were dirtied in `seconds`. Intervals without length say nothing and are ignored.
    void sample(std::uint64_t pages, double seconds) {
        if (!(seconds > 0)) return;
        samples_[taken_++ % kRemembered] = {static_cast<double>(pages), seconds};
        fit();
    }

    // Of the last interval: what a copy that took as long would have to send again.
    double bytes_per_second() const {
        if (taken_ == 0) return 0;
        const Sample& s = samples_[(taken_ - 1) % kRemembered];
        return s.pages * kPageBytes / s.seconds;
    }
    // Pages the guest writes over and over; infinity while the intervals show no flattening.
    double working_set_pages() const { return set_; }
    // Writes a second to pages that may have been dirty already: bytes_per_second() of an ever shorter interval.
    double writes_per_second() const { return rate_; }
    // Different pages expected to be dirty after `seconds`.
    double expected_pages(double seconds) const {
        return std::isinf(set_) ? rate_ * seconds
               : set_ > 0       ? set_ * (1 - std::exp(-rate_ * seconds / set_))
                                : 0;
    }

  private:
    struct Sample {
        double pages, seconds;
    };

    void fit() {
        const std::size_t n = std::min(taken_, kRemembered);
        Sample s = samples_[0], l = samples_[0];  // intervals of one length count as their newest
        for (std::size_t i = taken_ - n; i < taken_; ++i) {
            const Sample& c = samples_[i % kRemembered];
            if (i == taken_ - n || c.seconds <= s.seconds) s = c;
            if (i == taken_ - n || c.seconds >= l.seconds) l = c;
        }
        const double longer = l.seconds / s.seconds, more = s.pages > 0 ? l.pages / s.pages : longer;
        if (longer < 1.05 || more > 0.98 * longer) {  // one length only, or as many more pages as time
            set_ = INFINITY;
            rate_ = l.pages / l.seconds;
            return;
        }
        // x = exp(-r s/W): more = (1 - x^longer) / (1 - x), which falls from `longer` to 1 as x goes from 1 to 0.
        double low = 0, high = 1;
        for (int i = 0; i < 60; ++i) {
            const double x = (low + high) / 2;
            ((1 - std::pow(x, longer)) / (1 - x) < more ? low : high) = x;
        }
        const double x = std::max(low, 1e-9);
        set_ = std::max(s.pages, l.pages) / (1 - std::pow(x, s.pages > l.pages ? 1 : longer));
        rate_ = -std::log(x) * set_ / s.seconds;
    }

    std::array<Sample, kRemembered> samples_{};
    std::size_t taken_ = 0;
    double set_ = 0, rate_ = 0;
};

}  // namespace proa::dirtylog
