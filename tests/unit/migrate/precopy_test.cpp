// When copying stops, and what the progress bar says meanwhile.
#include "migrate/precopy.hpp"

#include <gtest/gtest.h>

#include <random>

namespace proa::migrate {
namespace {

constexpr double kMiB = 1048576;

// A link of `link` bytes/s and a guest that dirties `dirty` pages/s out of `working_set`: rounds until a verdict.
struct Guest {
    double link = 100 * kMiB, dirty = 1'000;
    std::uint64_t pages = 65'536, working_set = 65'536;
    RoundFacts round(std::uint64_t to_send) const {
        const double seconds = static_cast<double>(to_send) * 4096 / link;
        return {to_send, 0, to_send * 4096, Seconds(seconds),
                std::min<std::uint64_t>(working_set, static_cast<std::uint64_t>(dirty * seconds))};
    }
};
struct Ending {
    Verdict last;
    unsigned rounds, throttles;
    std::uint64_t left;
};
Ending simulate(Precopy& p, Guest g) {
    std::uint64_t send = g.pages;
    const double full_speed = g.dirty;
    for (Ending r{Verdict::CopyAgain, 0, 0, 0};;) {
        const RoundFacts f = g.round(send);
        r.last = p.after_round(f);
        r.left = f.pages_dirty;
        ++r.rounds;
        if (r.last == Verdict::Throttle) {
            ++r.throttles;
            g.dirty = full_speed * (100 - p.throttle()) / 100;
        } else if (r.last != Verdict::CopyAgain || r.rounds > 200) {
            return r;
        }
        send = std::max<std::uint64_t>(1, f.pages_dirty);
    }
}

TEST(Precopy, AnIdleGuestIsStoppedAfterOneRound) {
    Precopy p({});
    Guest idle;
    idle.dirty = 0;
    const Ending r = simulate(p, idle);
    EXPECT_EQ(r.last, Verdict::StopGuest);
    EXPECT_EQ(r.rounds, 1u);
    EXPECT_EQ(p.reason(), "");
}

TEST(Precopy, ABusyGuestIsStoppedOnceTheTargetIsMet) {
    PrecopyPolicy policy;
    Precopy p(policy);
    const Ending r = simulate(p, {});
    EXPECT_EQ(r.last, Verdict::StopGuest);
    EXPECT_GT(r.rounds, 1u);
    EXPECT_LE(p.predicted_downtime(), policy.downtime);
    EXPECT_EQ(p.reason(), "");
}

TEST(Precopy, ItGoesOnUntilAnotherRoundWouldSaveLittle) {
    PrecopyPolicy policy;
    Precopy p(policy);
    Guest g;
    g.dirty = 5'000;  // a fifth of what the link takes: the rounds leave 12'800, 2'500, 488 and 95 pages
    const Ending r = simulate(p, g);
    EXPECT_EQ(r.last, Verdict::StopGuest);
    EXPECT_EQ(r.left, 95u);
    EXPECT_LT(p.predicted_downtime(), policy.switch_cost + policy.min_gain);

    g.dirty = 25'000;  // nearly as much: what a round would save is less than what it copies
    policy.downtime = Seconds(1e9);
    Precopy q(policy);
    EXPECT_EQ(simulate(q, g).rounds, 1u);
}

TEST(Precopy, ThePredictionIsWhatTheLastRoundWouldTake) {
    PrecopyPolicy policy;
    Precopy p(policy);
    (void)p.after_round({1'000, 0, 1'000 * 4096, Seconds(0.04096), 500});  // 100 MB/s
    EXPECT_NEAR(p.predicted_downtime().count(), 500 * 4096 / 100e6 + policy.switch_cost.count(), 1e-9);
    EXPECT_NEAR(p.wire_bytes_per_second(), 100e6, 1);
    EXPECT_NEAR(p.dirty_bytes_per_second(), 500 * 4096 / 0.04096, 1);
}

TEST(Precopy, CompressionCountsInThePrediction) {
    Precopy p({});
    (void)p.after_round({1'000, 0, 1'000 * 1'024, Seconds(0.1), 1'000});  // a quarter of the bytes
    EXPECT_NEAR(p.predicted_downtime().count(), 0.1 + 0.03, 1e-9);
}

TEST(Precopy, ZeroPagesOfTheFirstRoundSayNothingAboutTheNext) {
    Precopy p({});
    // 4 GiB of which a sixteenth was data, in 2.56 s: 100 MiB/s.
    const auto v = p.after_round({1'048'576, 983'040, 65'536 * 4096, Seconds(2.56), 2'560});
    EXPECT_NEAR(p.predicted_downtime().count(), 0.1 + 0.03, 1e-9);
    EXPECT_EQ(v, Verdict::CopyAgain) << "another short round saves a tenth of a second";
}

TEST(Precopy, AGuestThatWritesZerosIsPredictedByWhatThoseTake) {
    PrecopyPolicy policy;
    policy.give_up = true;
    Precopy p(policy);
    (void)p.after_round({100'000, 0, 100'000 * 4096, Seconds(4), 50'000});
    // Round after round 50'000 pages, all but a hundred zero, in 50 ms.
    Verdict v = Verdict::CopyAgain;
    for (int i = 0; i < 5 && v == Verdict::CopyAgain; ++i)
        v = p.after_round({50'000, 49'900, 49'900 * 8 + 100 * 4104, Seconds(0.05), 50'000});
    EXPECT_EQ(v, Verdict::StopGuest);
    EXPECT_EQ(p.reason(), "");
    EXPECT_NEAR(p.predicted_downtime().count(), 0.05 + 0.03, 0.02);
}

TEST(Precopy, AFirstRoundThatWaitedIsForgottenOnceAnotherWasMeasured) {
    Precopy p({});
    (void)p.after_round({250'000, 0, 250'000ull * 4096, Seconds(30), 5'000});  // for the destination's memory
    EXPECT_EQ(p.after_round({5'000, 0, 5'000 * 4096, Seconds(0.02), 5'000}), Verdict::StopGuest);
    EXPECT_NEAR(p.wire_bytes_per_second(), 1.024e9, 1);
}

TEST(Precopy, NoPageIsExpectedToTakeMoreThanItself) {
    Precopy p({});
    // Four million pages that are used and zero again, and a few with something in them.
    (void)p.after_round({4'005'000, 4'000'000, 4'000'000ull * 8 + 5'000ull * 4104, Seconds(1), 10'000});
    EXPECT_LT(p.predicted_downtime().count(), 0.03 + 10'000 * 4200 / 52.5e6);
}

TEST(Precopy, AGuestThatOutrunsTheLinkIsStoppedAnywayAndTheReasonSaid) {
    Precopy p({});
    Guest fast;
    fast.dirty = 200'000;
    const Ending r = simulate(p, fast);
    EXPECT_EQ(r.last, Verdict::StopGuest);
    EXPECT_NE(p.reason().find("the target is 300 ms"), std::string::npos) << p.reason();
    EXPECT_LT(r.rounds, 10u) << "it does not go on in vain";
}

TEST(Precopy, OrGivenUpByChoice) {
    PrecopyPolicy policy;
    policy.give_up = true;
    Precopy p(policy);
    Guest fast;
    fast.dirty = 200'000;
    EXPECT_EQ(simulate(p, fast).last, Verdict::GiveUp);
    EXPECT_NE(p.reason(), "");
}

TEST(Precopy, OrSlowedDownStepwiseUntilItConverges) {
    PrecopyPolicy policy;
    policy.auto_converge = true;
    Precopy p(policy);
    Guest fast;
    fast.dirty = 60'000;
    const Ending r = simulate(p, fast);
    EXPECT_EQ(r.last, Verdict::StopGuest);
    EXPECT_GT(r.throttles, 1u);
    EXPECT_LE(p.throttle(), 99u);
    EXPECT_LE(p.predicted_downtime(), policy.downtime);
}

TEST(Precopy, ThrottlingEndsAt99PercentAndThenTheChoiceCounts) {
    for (const bool give_up : {false, true}) {
        PrecopyPolicy policy;
        policy.auto_converge = true;
        policy.give_up = give_up;
        Precopy p(policy);
        Guest impossible;
        impossible.dirty = 1e9;
        const Ending r = simulate(p, impossible);
        EXPECT_EQ(r.last, give_up ? Verdict::GiveUp : Verdict::StopGuest);
        EXPECT_EQ(p.throttle(), 99u);
        EXPECT_LE(r.rounds, 30u);
    }
}

TEST(Precopy, EveryGuestAndEveryPolicyEnds) {
    std::mt19937 random(9);
    const auto upto = [&](double most) { return std::uniform_real_distribution<>(0, most)(random); };
    for (int n = 0; n < 2'000; ++n) {
        PrecopyPolicy policy;
        policy.downtime = Seconds(upto(2));
        policy.auto_converge = random() % 2 != 0;
        policy.give_up = random() % 2 != 0;
        policy.max_rounds = 1 + random() % 40;
        Precopy p(policy);
        Guest g;
        g.link = 1e3 + upto(1e9);
        g.dirty = upto(1e6);
        g.working_set = 1 + random() % g.pages;
        const Ending r = simulate(p, g);
        EXPECT_TRUE(r.last == Verdict::StopGuest || r.last == Verdict::GiveUp);
        EXPECT_LE(r.rounds, policy.max_rounds + 20);
        EXPECT_TRUE(r.last != Verdict::GiveUp || policy.give_up);
    }
}

TEST(Precopy, ARoundWithoutTimeOrBytesIsSurvived) {
    Precopy p({});
    EXPECT_EQ(p.after_round({0, 0, 0, Seconds(0), 0}), Verdict::StopGuest);
    EXPECT_EQ(p.dirty_bytes_per_second(), 0);
}

TEST(Eta, NeverRunsBackwardsWhateverTheEstimatesSay) {
    std::mt19937 random(4);
    Eta eta;
    double last = 1e300;
    for (int i = 0; i < 10'000; ++i) {
        const double estimate = std::uniform_real_distribution<>(0, 100)(random);
        const double now = eta.update(Seconds(estimate), Seconds(0.1)).count();
        EXPECT_LE(now, last);
        EXPECT_GE(now, 0);
        last = now;
    }
}

TEST(Eta, FollowsABetterEstimateAndRunsSlowerOnAWorseOne) {
    Eta eta;
    EXPECT_DOUBLE_EQ(eta.update(Seconds(10), Seconds(0)).count(), 10);
    EXPECT_DOUBLE_EQ(eta.update(Seconds(4), Seconds(1)).count(), 4);
    EXPECT_DOUBLE_EQ(eta.update(Seconds(50), Seconds(1)).count(), 4 - 4.0 / 50);
    EXPECT_GT(eta.update(Seconds(50), Seconds(10)).count(), 0) << "not there before the estimate is";
    EXPECT_DOUBLE_EQ(eta.update(Seconds(0), Seconds(1)).count(), 0);
}

}  // namespace
}  // namespace proa::migrate
