// The rate limit and the bandwidth estimate, with time passed in.
#include <gtest/gtest.h>

#include "transport/rate.hpp"

namespace proa::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(RateLimiter, WithoutALimitNobodyWaits) {
    RateLimiter r(0);
    EXPECT_EQ(r.take(1ull << 40, Clock::time_point(seconds(1))).count(), 0);
}

TEST(RateLimiter, HoldsALongRunToTheRate) {
    for (const std::uint64_t rate : {100'000ull, 10'000'000ull}) {
        RateLimiter r(rate);
        auto now = Clock::time_point(seconds(100));
        const auto start = now;
        std::uint64_t sent = 0;
        for (int i = 0; i < 1'000; ++i) {
            now += r.take(rate / 50, now);
            sent += rate / 50;
        }
        const double took = std::chrono::duration<double>(now - start).count();
        const double wanted = static_cast<double>(sent) / static_cast<double>(rate);
        EXPECT_NEAR(took, wanted, 0.051) << rate;
    }
}

TEST(RateLimiter, IdleTimeIsNotSavedUpBeyondABurst) {
    RateLimiter r(1'000'000);
    auto now = Clock::time_point(seconds(100));
    (void)r.take(1'000, now);
    now += seconds(3600);
    EXPECT_EQ(r.take(50'000, now).count(), 0) << "50 ms of the rate pass at once";
    EXPECT_NEAR(std::chrono::duration<double>(r.take(100'000, now)).count(), 0.1, 1e-6);
}

TEST(BandwidthEstimator, FollowsTheLinkAndIgnoresNothing) {
    BandwidthEstimator b;
    EXPECT_EQ(b.bytes_per_second(), 0);
    b.sample(0, seconds(1));
    b.sample(1'000, Clock::duration{});
    EXPECT_EQ(b.bytes_per_second(), 0) << "samples that say nothing";
    b.sample(1'000'000, milliseconds(500));
    EXPECT_DOUBLE_EQ(b.bytes_per_second(), 2e6);
    for (int i = 0; i < 50; ++i) b.sample(1'000'000, seconds(1));
    EXPECT_NEAR(b.bytes_per_second(), 1e6, 1e3);
}

}  // namespace
}  // namespace proa::transport
