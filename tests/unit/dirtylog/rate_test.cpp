// DirtyRate against guests whose law of writing is known.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "dirtylog/rate.hpp"

namespace proa::dirtylog {
namespace {

// `rate` writes a second, evenly over `set` pages; how many different ones in an interval.
struct Writer {
    std::uint64_t set;
    double rate;
    std::mt19937_64 random{1};
    std::uint64_t during(double seconds) {
        std::vector<bool> dirty(set);
        std::uint64_t n = 0;
        for (auto writes = static_cast<std::uint64_t>(rate * seconds); writes > 0; --writes) {
            const std::uint64_t p = random() % set;
            n += dirty[p] ? 0 : 1;
            dirty[p] = true;
        }
        return n;
    }
};

TEST(DirtyRate, KnowsNothingBeforeTheFirstInterval) {
    DirtyRate d;
    EXPECT_EQ(d.bytes_per_second(), 0);
    EXPECT_EQ(d.expected_pages(1), 0);
    d.sample(100, 0);
    EXPECT_EQ(d.bytes_per_second(), 0) << "an interval without length says nothing";
}

TEST(DirtyRate, OneIntervalGivesItsOwnRate) {
    DirtyRate d;
    d.sample(2560, 0.5);
    EXPECT_DOUBLE_EQ(d.bytes_per_second(), 2560 * 4096 / 0.5);
    EXPECT_DOUBLE_EQ(d.expected_pages(0.1), 512);
    EXPECT_TRUE(std::isinf(d.working_set_pages()));
}

TEST(DirtyRate, FindsTheWorkingSetOfAnEvenWriter) {
    for (const std::uint64_t set : {1000u, 16'384u}) {
        Writer w{set, static_cast<double>(set)};  // touches 63 % of it in a second
        DirtyRate d;
        for (const double t : {2.0, 1.1, 0.7, 0.4}) d.sample(w.during(t), t);  // rounds get shorter
        EXPECT_NEAR(d.working_set_pages() / static_cast<double>(set), 1, 0.15);
        EXPECT_NEAR(d.writes_per_second() / w.rate, 1, 0.15);
        for (const double t : {0.05, 0.3, 1.5, 5.0})
            EXPECT_NEAR(d.expected_pages(t) / static_cast<double>(w.during(t)), 1, 0.15) << t << " s";
    }
}

TEST(DirtyRate, AWriterThatIsDoneWithItsSetAtOnceHasThatSet) {
    DirtyRate d;
    d.sample(4096, 3);
    d.sample(4096, 1);
    EXPECT_NEAR(d.working_set_pages(), 4096, 50);
    EXPECT_NEAR(d.expected_pages(10), 4096, 50);
}

TEST(DirtyRate, AStreamThatNeverComesBackShowsNoSet) {
    DirtyRate d;
    for (const double t : {2.0, 1.0, 0.5}) d.sample(static_cast<std::uint64_t>(8192 * t), t);
    EXPECT_TRUE(std::isinf(d.working_set_pages()));
    EXPECT_NEAR(d.expected_pages(4), 4 * 8192, 1);
}

TEST(DirtyRate, AnIdleGuestExpectsNothing) {
    DirtyRate d;
    for (const double t : {2.0, 1.0, 0.5}) d.sample(0, t);
    EXPECT_EQ(d.expected_pages(100), 0);
    EXPECT_EQ(d.bytes_per_second(), 0);
}

TEST(DirtyRate, ForgetsWhatIsLongAgo) {
    DirtyRate d;
    d.sample(1'000'000, 10);
    for (std::size_t n = 0; n < DirtyRate::kRemembered; ++n) d.sample(10, 1);
    EXPECT_NEAR(d.expected_pages(1), 10, 0.01);
}

// Whatever harvests report, the answers are numbers and expectations grow with time.
TEST(DirtyRate, NoSequenceOfIntervalsBreaksIt) {
    std::mt19937_64 random(5);
    for (unsigned n = 0; n < 20'000; ++n) {
        DirtyRate d;
        for (unsigned k = 0; k < 10; ++k)
            d.sample(random() % 3 == 0 ? 0 : random() % (1u << random() % 24),
                     static_cast<double>(random() % 1000) / (random() % 2 == 0 ? 1e3 : 1e6));
        double last = 0;
        for (const double t : {1e-6, 1e-3, 0.5, 1.0, 60.0}) {
            const double e = d.expected_pages(t);
            ASSERT_TRUE(std::isfinite(e)) << n;
            ASSERT_GE(e, last) << n;
            last = e;
        }
        ASSERT_GE(d.writes_per_second(), 0);
        ASSERT_FALSE(std::isnan(d.working_set_pages()));
    }
}

}  // namespace
}  // namespace proa::dirtylog
