// How long an epoch is.
#include "remus/pacing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace proa::remus {
namespace {

PacingPolicy adaptive() {
    PacingPolicy p;
    p.adaptive = true;
    return p;
}

TEST(Pacing, AFixedIntervalIsFixed) {
    Pacing p({});
    EXPECT_EQ(p.next(false), Seconds(0.025));
    p.after(Seconds(0.5), Seconds(2));
    EXPECT_EQ(p.next(false), Seconds(0.025));
    EXPECT_EQ(p.next(true), Seconds(0.025));
}

TEST(Pacing, WaitingOutputMakesTheEpochAsShortAsThePolicyAllows) {
    Pacing p(adaptive());
    p.after(Seconds(0.001), Seconds(0.010));
    EXPECT_EQ(p.next(true), Seconds(0.025));
}

TEST(Pacing, AnIdleGuestsCopyBecomesNoOlderThanTheLag) {
    Pacing p(adaptive());
    p.after(Seconds(0.001), Seconds(0.030));
    EXPECT_NEAR(p.next(false).count(), 0.2 - 0.030, 1e-9) << "the next one needs 30 ms to arrive";
}

TEST(Pacing, ALongPauseLengthensTheEpochSoThatTheOverheadStaysInItsLimit) {
    Pacing p(adaptive());
    p.after(Seconds(0.008), Seconds(0.020));
    EXPECT_NEAR(p.next(true).count(), 0.080, 1e-9);
}

TEST(Pacing, WhereLagAndOverheadConflictTheGuestGoesFirst) {
    Pacing p(adaptive());
    p.after(Seconds(0.040), Seconds(0.5));
    EXPECT_NEAR(p.next(true).count(), 0.4, 1e-9);
    EXPECT_NEAR(p.next(false).count(), 0.4, 1e-9);
}

TEST(Pacing, OneSlowCheckpointIsBelievedAtOnceAndForgottenSlowly) {
    Pacing p(adaptive());
    for (int i = 0; i < 20; ++i) p.after(Seconds(0.001), Seconds(0.005));
    p.after(Seconds(0.010), Seconds(0.005));
    EXPECT_NEAR(p.next(true).count(), 0.1, 1e-9);
    Seconds last = p.next(true);
    for (int i = 0; i < 5; ++i) {
        p.after(Seconds(0.001), Seconds(0.005));
        EXPECT_LT(p.next(true), last);
        last = p.next(true);
    }
    for (int i = 0; i < 40; ++i) p.after(Seconds(0.001), Seconds(0.005));
    EXPECT_EQ(p.next(true), Seconds(0.025));
}

// Whatever checkpoints cost: with waiting output never slower than without, and the last pause within its share.
TEST(Pacing, NoSequenceOfCheckpointsBreaksTheLimits) {
    std::mt19937 random(7);
    std::uniform_real_distribution<double> pauses(0, 0.03), acks(0, 0.3);
    const PacingPolicy policy = adaptive();
    Pacing p(policy);
    for (int i = 0; i < 10'000; ++i) {
        const Seconds pause(pauses(random)), ack(acks(random));
        p.after(pause, ack);
        for (const bool waits : {false, true}) {
            ASSERT_GE(p.next(waits), policy.interval);
            ASSERT_LE(pause / p.next(waits), policy.max_overhead + 1e-9);
        }
        ASSERT_LE(p.next(true), p.next(false));
        ASSERT_LE(p.next(false), std::max(p.next(true), policy.max_lag - ack));
    }
}

TEST(Pacing, NonsenseInThePolicyOrTheMeasurementIsSurvived) {
    PacingPolicy policy = adaptive();
    policy.max_overhead = 0;
    Pacing p(policy);
    p.after(Seconds(0.001), Seconds(-1));
    EXPECT_NEAR(p.next(true).count(), 1.0, 1e-9);
    p.after(Seconds(-1), Seconds(0));
    EXPECT_GT(p.next(true), Seconds(0));
}

}  // namespace
}  // namespace proa::remus
