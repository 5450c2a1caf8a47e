#include "remus/lease_keeper.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <limits>
#include <vector>

#include "tests/support/fake_witness.hpp"

namespace proa::remus {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t kHz = 62'500'000;
constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Fence, IsTheTtlLessTheMarginAfterTheRequestWasSent) {
    EXPECT_EQ(fence_for(1000, kHz, {.ttl = 3000ms, .renew_every = 500ms, .margin = 400ms}),
              1000 + kHz * 26 / 10);
    EXPECT_EQ(fence_for(5, 1'000'000'000, {.ttl = 2ms, .renew_every = 1ms, .margin = 1ms}), 1'000'005u);
}
TEST(Fence, RoundsDown) {
    EXPECT_EQ(fence_for(7, 999, {.ttl = 2ms, .renew_every = 1ms, .margin = 1ms}), 7u);
}
TEST(Fence, IsNowIfTheMarginLeavesNothingOfTheTtl) {
    EXPECT_EQ(fence_for(1000, kHz, {.ttl = 300ms, .renew_every = 1ms, .margin = 400ms}), 1000u);
}
TEST(Fence, IsNeverZeroWhichWouldMeanNone) {
    EXPECT_EQ(fence_for(0, kHz, {.ttl = 300ms, .renew_every = 1ms, .margin = 400ms}), 1u);
    EXPECT_EQ(fence_for(0, 0, {}), 1u);
}
TEST(Fence, EndsAtTheCountersEndInsteadOfWrapping) {
    EXPECT_EQ(fence_for(kMax - 5, kHz, {}), kMax);
    EXPECT_EQ(fence_for(1, kMax, {.ttl = 5000ms, .renew_every = 1ms, .margin = 0ms}), kMax);
    EXPECT_EQ(fence_for(1, kHz, {.ttl = std::chrono::milliseconds::max(), .renew_every = 1ms, .margin = 0ms}),
              kMax);
}
TEST(AttemptTimeout, LetsThreeRenewalsFailBeforeTheFence) {
    const LeaseTiming t{.ttl = 3000ms, .renew_every = 500ms, .margin = 400ms};
    EXPECT_LE(t.renew_every + 3 * attempt_timeout(t), t.ttl - t.margin);
    EXPECT_GE(attempt_timeout(t), 500ms);
    EXPECT_GE(attempt_timeout({.ttl = 1ms, .renew_every = 500ms, .margin = 400ms}), 1ms);
}

class Keeper : public testing::Test {
  protected:
    Keeper() {
        held_ = *witness_.claim("g", "A", "aa", timing_.ttl, 0)->held;
        claimed_ = witness_.calls();
    }
    LeaseKeeper::Hooks hooks() {
        return {.lost = [this] { lost_.set_value(); },  // a second time would throw
                .late = [this] { ++late_; },
                .fence =
                    [this](std::uint64_t c) {
                        std::lock_guard lock(mutex_);
                        fences_.push_back(c);
                    },
                .now = [this] { return now_.load(); },
                .hz = kHz};
    }
    std::vector<std::uint64_t> fences() {
        std::lock_guard lock(mutex_);
        return fences_;
    }
    std::uint64_t fence_of(std::uint64_t sent) const { return fence_for(sent, kHz, timing_); }
    // From here on a renewal stays between its effect and its answer, until `go`. The future: one has come so far.
    std::future<void> hold_answer(std::shared_future<void> go) {
        auto there = std::make_shared<std::promise<void>>();
        auto once = std::make_shared<std::atomic<bool>>(false);
        witness_.before_answer([there, once, go] {
            if (!once->exchange(true)) there->set_value();
            go.wait();
        });
        return there->get_future();
    }

    test::WitnessService service_;
    test::FakeWitness witness_{service_};
    const LeaseTiming timing_{.ttl = 3000ms, .renew_every = 1ms, .margin = 400ms};
    std::atomic<std::uint64_t> now_{5000};
    Held held_;
    unsigned claimed_ = 0;
    std::mutex mutex_;
    std::vector<std::uint64_t> fences_;
    std::promise<void> lost_;
    std::atomic<unsigned> late_{0};
};

TEST_F(Keeper, RenewsAgainAndAgain) {
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    EXPECT_TRUE(witness_.wait_renewals(5));
    EXPECT_TRUE(fences().empty()) << "nobody has armed it";
}
TEST_F(Keeper, SetsTheFenceFromTheClaimWhenItIsArmedBeforeAnyRenewal) {
    witness_.cut();
    LeaseKeeper k(witness_, held_, 4000, timing_, hooks());
    k.arm();
    EXPECT_EQ(fences(), std::vector{fence_of(4000)});
}
TEST_F(Keeper, SetsTheFenceFromTheLastRenewalWhenItIsArmed) {
    LeaseKeeper k(witness_, held_, 4000, timing_, hooks());
    ASSERT_TRUE(witness_.wait_renewals(2));  // so that the keeper has taken in the first
    k.arm();
    ASSERT_FALSE(fences().empty());
    EXPECT_EQ(fences()[0], fence_of(5000));
}
TEST_F(Keeper, MovesTheFenceWithEachRenewal) {
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    now_ = 9000;
    ASSERT_TRUE(witness_.wait_renewals(witness_.renewals() + 3));
    EXPECT_EQ(fences().back(), fence_of(9000));
}
TEST_F(Keeper, CountsTheFenceFromTheRequestAndNotFromTheAnswer) {
    std::promise<void> go;
    auto there = hold_answer(go.get_future().share());
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    there.wait();
    now_ = 800'000'000;
    witness_.before_answer({});
    witness_.cut();  // the one on its way is the last that succeeds
    go.set_value();
    ASSERT_TRUE(witness_.wait_calls(claimed_ + 2));
    EXPECT_EQ(fences().back(), fence_of(5000));
}
TEST_F(Keeper, LeavesTheFenceWhereItWasWhileTheWitnessIsSilent) {
    witness_.cut();
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    now_ = 9000;
    ASSERT_TRUE(witness_.wait_calls(claimed_ + 4));
    EXPECT_EQ(fences(), std::vector{fence_of(5000)});
}
TEST_F(Keeper, DoesNotCountARenewalWhoseAnswerWasLost) {
    witness_.lose_answers(1000);
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    now_ = 9000;
    ASSERT_TRUE(witness_.wait_calls(claimed_ + 4));
    EXPECT_EQ(fences(), std::vector{fence_of(5000)});
}
TEST_F(Keeper, SaysThatItIsLateOnceASilenceAndOnlyWhenArmed) {
    const std::uint64_t late = kHz / 1000 * static_cast<std::uint64_t>(late_after(timing_).count());
    witness_.cut();
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    now_ = 5000 + late;
    ASSERT_TRUE(witness_.wait_calls(claimed_ + 3));
    EXPECT_EQ(late_, 0u) << "nobody has armed it";
    now_ = 5000 + late - kHz / 1000;
    k.arm();
    ASSERT_TRUE(witness_.wait_calls(witness_.calls() + 3));
    EXPECT_EQ(late_, 0u) << "there is time left";
    now_ = 5000 + late;
    ASSERT_TRUE(witness_.wait_calls(witness_.calls() + 4));
    EXPECT_EQ(late_, 1u);
    witness_.cut(false);
    ASSERT_TRUE(witness_.wait_renewals(2));
    witness_.cut();
    now_ = 5000 + 2 * late;
    ASSERT_TRUE(witness_.wait_calls(witness_.calls() + 4));
    EXPECT_EQ(late_, 2u) << "another silence";
}
TEST_F(Keeper, GoesOnRenewingWhenTheWitnessIsBack) {
    witness_.cut();
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    ASSERT_TRUE(witness_.wait_calls(claimed_ + 2));
    now_ = 9000;
    witness_.cut(false);
    ASSERT_TRUE(witness_.wait_renewals(2));
    EXPECT_EQ(fences().back(), fence_of(9000));
}
TEST_F(Keeper, TakesTheFenceAwayWhenDisarmedAndGoesOnRenewing) {
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    k.disarm();
    ASSERT_TRUE(witness_.wait_renewals(witness_.renewals() + 3));
    EXPECT_EQ(fences().back(), 0u);
}
TEST_F(Keeper, DoesNotSetTheFenceByARenewalThatIsAnsweredAfterDisarm) {
    std::promise<void> go;
    auto there = hold_answer(go.get_future().share());
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    k.arm();
    there.wait();
    k.disarm();
    witness_.before_answer({});
    go.set_value();
    ASSERT_TRUE(witness_.wait_renewals(3));
    EXPECT_EQ(fences(), (std::vector<std::uint64_t>{fence_of(5000), 0}));
}
TEST_F(Keeper, LeavesTheFenceWhenStoppedEvenIfAnAnswerComesLater) {
    std::promise<void> go;
    auto there = hold_answer(go.get_future().share());
    {
        LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
        k.arm();
        there.wait();
        now_ = 9000;
        k.stop();
        go.set_value();
    }
    EXPECT_EQ(fences(), std::vector{fence_of(5000)});
    EXPECT_EQ(witness_.calls(), claimed_ + 1) << "no renewal after stop";
}
TEST_F(Keeper, SaysLostOnceAndRenewsNoMore) {
    service_.advance(timing_.ttl);
    {
        LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
        k.arm();
        lost_.get_future().wait();
    }
    EXPECT_EQ(witness_.calls(), claimed_ + 1);
    EXPECT_EQ(fences(), std::vector{fence_of(5000)}) << "the fence stays armed";
}
TEST_F(Keeper, DoesNotSayLostAfterStop) {
    std::promise<void> go;
    auto there = hold_answer(go.get_future().share());
    service_.advance(timing_.ttl);
    bool lost = false;
    {
        auto h = hooks();
        h.lost = [&] { lost = true; };
        LeaseKeeper k(witness_, held_, 5000, timing_, h);
        there.wait();
        k.stop();
        go.set_value();
    }
    EXPECT_FALSE(lost);
}
TEST_F(Keeper, CanBeStoppedAndAskedByTheLostHook) {
    service_.advance(timing_.ttl);
    std::promise<LeaseKeeper*> keeper;
    auto h = hooks();
    h.lost = [&, k = keeper.get_future().share()] {
        k.get()->stop();
        k.get()->arm();
        lost_.set_value();
    };
    LeaseKeeper k(witness_, held_, 5000, timing_, h);
    keeper.set_value(&k);
    lost_.get_future().wait();
    EXPECT_EQ(fences(), std::vector{fence_of(5000)});
}
TEST_F(Keeper, KnowsHowLongAgoTheLastRenewalWasSent) {
    witness_.cut();
    LeaseKeeper k(witness_, held_, 5000, timing_, hooks());
    EXPECT_EQ(k.since_renewal(), 0ms);
    now_ = 5000 + kHz * 3 / 2;
    EXPECT_EQ(k.since_renewal(), 1500ms);
    now_ = 0;
    EXPECT_EQ(k.since_renewal(), 0ms);
}

}  // namespace
}  // namespace proa::remus
