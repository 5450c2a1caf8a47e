// When silence becomes suspicion, on a clock that only the test moves.
#include "remus/failure_detector.hpp"

#include <gtest/gtest.h>

namespace proa::remus {
namespace {

using namespace std::chrono_literals;
using Clock = FailureDetector::Clock;

// 100 ms a beat, eight misses. `beats`: the other side lives and its beats arrive.
struct Pair {
    Clock::time_point now{};
    FailureDetector detector{DetectorPolicy{}, now};
    bool look(std::chrono::milliseconds later, bool beats) {
        now += later;
        if (beats) detector.beat(now);
        return detector.suspects(now);
    }
    // Looks once a period until it suspects; how long that took.
    std::chrono::milliseconds until_suspicion(std::chrono::milliseconds period) {
        const auto began = now;
        for (int i = 0; i < 1'000; ++i)
            if (look(period, false)) return std::chrono::duration_cast<std::chrono::milliseconds>(now - began);
        return -1ms;
    }
};

TEST(FailureDetector, APrimaryThatBeatsIsNotSuspected) {
    Pair p;
    for (int i = 0; i < 10'000; ++i) ASSERT_FALSE(p.look(100ms, true));
}

TEST(FailureDetector, SevenLostHeartbeatsRaiseNoSuspicionAndTheEighthDoes) {
    Pair p;
    ASSERT_FALSE(p.look(100ms, true));
    for (int miss = 1; miss < 8; ++miss) EXPECT_FALSE(p.look(100ms, false)) << miss;
    EXPECT_TRUE(p.look(100ms, false));
    EXPECT_EQ(p.detector.silence(p.now), 800ms);
}

TEST(FailureDetector, ASingleHeartbeatAfterManyLostOnesBeginsTheCountAnew) {
    Pair p;
    for (int round = 0; round < 100; ++round)
        for (int i = 0; i < 8; ++i) ASSERT_FALSE(p.look(100ms, i == 0)) << round << ' ' << i;
}

TEST(FailureDetector, ASuspicionEndsWithTheNextHeartbeat) {
    Pair p;
    ASSERT_EQ(p.until_suspicion(100ms), 800ms);
    EXPECT_FALSE(p.look(100ms, true));
    EXPECT_EQ(p.until_suspicion(100ms), 800ms);
}

TEST(FailureDetector, LooksMoreOftenThanBeatsFindItNoSoonerAndNoLater) {
    Pair p;
    EXPECT_EQ(p.until_suspicion(10ms), 800ms);
}

TEST(FailureDetector, ACallerThatWasHeldUpDoesNotBlameTheOtherSide) {
    Pair p;
    ASSERT_FALSE(p.look(100ms, true));
    EXPECT_FALSE(p.look(5s, false)) << "the beats of these five seconds may be in the socket still";
    EXPECT_LT(p.detector.silence(p.now), 800ms);
    EXPECT_FALSE(p.look(100ms, true));
}

TEST(FailureDetector, ButSilenceFromBeforeAndAfterTheHoldUpCounts) {
    Pair p;
    for (int i = 0; i < 4; ++i) ASSERT_FALSE(p.look(100ms, false));
    ASSERT_FALSE(p.look(5s, false));
    EXPECT_EQ(p.until_suspicion(100ms), 300ms) << "four misses before, one in the late look, three after";
}

TEST(FailureDetector, ACallerThatIsAlwaysLateStillFindsADeadPrimary) {
    Pair p;
    const auto took = p.until_suspicion(400ms);
    EXPECT_GT(took, 800ms);
    EXPECT_LE(took, 8 * 400ms);
}

TEST(FailureDetector, AHeartbeatWithAnOldTimeTakesNothingBack) {
    Pair p;
    ASSERT_FALSE(p.look(1s, true));
    p.detector.beat(p.now - 900ms);
    EXPECT_EQ(p.detector.silence(p.now), 0ms);
    EXPECT_EQ(p.detector.silence(p.now - 1s), 0ms) << "nor is silence ever negative";
}

}  // namespace
}  // namespace proa::remus
