// Bandwidth: a token bucket that holds a sender to a limit, and an estimate of what the link takes. Time is passed in.
#pragma once
#include <chrono>
#include <cstdint>

namespace proa::transport {

using Clock = std::chrono::steady_clock;

class RateLimiter {
  public:
    explicit RateLimiter(std::uint64_t bytes_per_second) : rate_(bytes_per_second) {}  // 0: no limit
    // How long to wait before sending `bytes` more. Bursts of up to 50 ms of the rate pass at once.
    Clock::duration take(std::uint64_t bytes, Clock::time_point now) {
        if (rate_ == 0) return {};
        const auto cost = std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_)));
        constexpr auto burst = std::chrono::milliseconds(50);
        if (next_ < now - burst) next_ = now - burst;
        next_ += cost;
        return next_ > now ? next_ - now : Clock::duration{};
    }

  private:
    std::uint64_t rate_;
    Clock::time_point next_{};
};

// Exponentially weighted: half of the weight in the last three samples or so.
class BandwidthEstimator {
  public:
    void sample(std::uint64_t bytes, Clock::duration took) {
        const double s = std::chrono::duration<double>(took).count();
        if (s <= 0 || bytes == 0) return;
        const double rate = static_cast<double>(bytes) / s;
        rate_ = rate_ == 0 ? rate : 0.8 * rate_ + 0.2 * rate;
    }
    double bytes_per_second() const { return rate_; }  // 0: nothing measured yet

  private:
    double rate_ = 0;
};

}  // namespace proa::transport
