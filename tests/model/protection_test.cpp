// Every interleaving of a protected guest's life with messages that are lost, repeated, late, connections that break, hosts
// that die, freeze or suspect each other for nothing, a witness that doesn't answer, and an operator.
#include <gtest/gtest.h>

#include <iostream>
#include <memory>

#include "tests/model/explorer.hpp"
#include "tests/model/protection_model.hpp"

namespace proa::model {
namespace {

using Explored = Explorer<World>;

Explored explore(const Protection& p, const Rules& r, Faults level = Faults::All) {
    return Explored(
        World{}, [&](const World& w, auto&& visit) { p.next(w, visit, level); },
        [&](const World& w) { return wrong_with(w, r) != nullptr; });
}

// The first state that breaks a promise, told as a story; empty if none does.
std::string first_violation(const Explored& all, const Rules& r) {
    const std::size_t last = all.size() - 1;  // exploration ends with it
    const char* wrong = wrong_with(all[last], r);
    return wrong == nullptr ? "" : wrong + all.story(last);
}

// The states from which, if nothing else fails, no copy ever runs, although one should.
std::vector<std::size_t> dead_ends(const Explored& all, const Protection& p, const Rules& r) {
    return all.cannot_reach(
        [&](const World& w) { return primary_runs(w, r) || w.backup_runs || lost_with_reason(w); },
        [&](const World& w, auto&& visit) { p.next(w, visit, Faults::None); });
}

// The protocol as it is, explored once.
struct ProtectionModel : testing::Test {
    static constexpr unsigned kEpochs = 2;
    static inline const Rules rules{};
    static inline Coverage coverage{};
    static inline std::unique_ptr<Protection> protocol;
    static inline std::unique_ptr<Explored> all;
    static void SetUpTestSuite() {
        protocol = std::make_unique<Protection>(rules, kEpochs, 1, &coverage);
        all = std::make_unique<Explored>(explore(*protocol, rules));
        std::cout << all->size() << " states\n";
        RecordProperty("states", static_cast<int>(all->size()));
    }
    static void TearDownTestSuite() {
        all.reset();
        protocol.reset();
    }
};

TEST_F(ProtectionModel, NoInterleavingBreaksAPromise) {
    EXPECT_EQ(first_violation(*all, rules), "");
    EXPECT_GT(all->size(), 100'000u) << "the explorer explores";
}

// With nothing else failing, some copy runs in the end: unless both were lost, the one that had the guest for good was, or
// the primary was before protection had begun or after it had ended.
TEST_F(ProtectionModel, EveryStateLeadsToARunningCopy) {
    const auto stuck = dead_ends(*all, *protocol, rules);
    EXPECT_EQ(stuck.size(), 0u) << "a dead end:" << all->story(stuck.empty() ? 0 : stuck.front());
}

// The witness alone can't stop a guest for good: the backup's word lets the primary go on.
TEST_F(ProtectionModel, WithoutAWitnessTheBackupLetsThePrimaryGoOn) {
    const Explored few = explore(*protocol, rules, Faults::Few);
    const auto dark = few.cannot_reach(
        [&](const World& w) { return w.primary == PrimaryState::Alone && primary_runs(w, rules); },
        [&](const World& w, auto&& visit) { protocol->next(w, visit, Faults::Dark); });
    const auto asks = [](const World& w) {
        return w.up && (w.primary == PrimaryState::Settling || w.primary == PrimaryState::Fenced) &&
               w.backup <= BackupState::Loading;
    };
    for (const std::size_t i : dark) ASSERT_FALSE(asks(few[i])) << "a dead end:" << few.story(i);
    std::size_t asked = 0;
    for (std::size_t i = 0; i < few.size(); ++i) asked += asks(few[i]);
    EXPECT_GT(asked, 0u);
    EXPECT_FALSE(dark.empty()) << "a backup that is deciding can't promise anything";
}

// A cell of a table that no interleaving needs would be untested, or dead.
TEST_F(ProtectionModel, EveryCellOfBothTablesIsReached) {
    const auto check = [](auto state, auto event, const auto& reached) {
        using State = decltype(state);
        using Event = decltype(event);
        for (unsigned s = 0; s < static_cast<unsigned>(State::Count); ++s) {
            bool known = false;
            for (unsigned e = 0; e < static_cast<unsigned>(Event::Count); ++e) {
                const auto to = step(static_cast<State>(s), static_cast<Event>(e));
                const bool blank = to.next == static_cast<State>(s) && static_cast<unsigned>(to.action) == 0;
                EXPECT_TRUE(blank || reached[s][e]) << name_of(static_cast<State>(s)) << ", event " << e;
                known |= reached[s][e];
            }
            const auto ended = static_cast<State>(s);
            EXPECT_TRUE(known || name_of(ended) == std::string("superseded") ||
                        name_of(ended) == std::string("left"))
                << name_of(ended);
        }
    };
    check(PrimaryState{}, PrimaryEvent{}, coverage.primary);
    check(BackupState{}, BackupEvent{}, coverage.backup);
}

// What the states above must contain, or the promises are kept by a model in which nothing happens.
TEST_F(ProtectionModel, TheStoriesItIsAboutDoHappen) {
    std::size_t failovers = 0, handovers = 0, fenced_and_back = 0, fenced_and_gone = 0, frozen = 0;
    for (std::size_t i = 0; i < all->size(); ++i) {
        const World& w = (*all)[i];
        failovers += w.backup_runs && !w.primary_alive;
        handovers += w.backup_runs && w.primary == PrimaryState::Left;
        fenced_and_back += w.fence_news && w.primary == PrimaryState::Alone;
        fenced_and_gone += w.backup_runs && w.primary == PrimaryState::Superseded;
        frozen += w.backup_runs && w.frozen;
    }
    EXPECT_GT(failovers, 0u);
    EXPECT_GT(handovers, 0u);
    EXPECT_GT(fenced_and_back, 0u);
    EXPECT_GT(fenced_and_gone, 0u);
    EXPECT_GT(frozen, 0u);
}

struct Spoiled {
    const char* name;
    bool Rules::*rule;
    const char* breaks;
};
std::ostream& operator<<(std::ostream& s, const Spoiled& x) {
    return s << x.name;
}
Rules rules_with(bool Rules::*one) {
    Rules r;
    r.*one = true;
    return r;
}

// The explorer must find what is wrong with protocols that are, and for the right reason.
struct WorseProtection : testing::TestWithParam<Spoiled> {};
TEST_P(WorseProtection, BreaksAPromise) {
    const Rules r = rules_with(GetParam().rule);
    const Protection p(r, 2);
    const std::string story = first_violation(explore(p, r), r);
    EXPECT_EQ(story.substr(0, story.find('\n')), GetParam().breaks) << story;
}
constexpr char kTwo[] = "two copies run", kForgets[] = "output was released that the failover forgets";
INSTANTIATE_TEST_SUITE_P(
    Model, WorseProtection,
    testing::Values(Spoiled{"FenceAfterExpiry", &Rules::fence_after_expiry, kTwo},
                    Spoiled{"FenceIsAProcess", &Rules::fence_is_a_process, kTwo},
                    Spoiled{"ArmedAfterEnd", &Rules::armed_after_end, kTwo},
                    Spoiled{"FencedResumes", &Rules::fenced_resumes, kTwo},
                    Spoiled{"ReleasedWhenSent", &Rules::released_when_sent, kForgets},
                    Spoiled{"AckedBeforeWhole", &Rules::acked_before_whole, kForgets},
                    Spoiled{"HeldFromEnd", &Rules::held_from_end, kForgets},
                    Spoiled{"OpenWithoutSettling", &Rules::open_without_settling, kTwo},
                    Spoiled{"OpenWhenDismissing", &Rules::open_when_dismissing, kTwo},
                    Spoiled{"ClaimWithoutWitness", &Rules::claim_without_witness, kTwo},
                    Spoiled{"RunOnALease", &Rules::run_on_a_lease, kTwo},
                    Spoiled{"RunWhileAsking", &Rules::run_while_asking, kTwo},
                    Spoiled{"CheckpointsAfterGranted", &Rules::checkpoints_after_granted,
                            "a checkpoint was taken after the start"},
                    Spoiled{"PromiseIsForgotten", &Rules::promise_is_forgotten, kForgets},
                    Spoiled{"ClaimsWithoutTerm", &Rules::claims_without_term, kTwo},
                    Spoiled{"SettleFromExpired", &Rules::settle_from_expired, kTwo},
                    Spoiled{"LeaseIsTheEnd", &Rules::lease_is_the_end,
                            "the primary gave up without proof that the backup has the guest"}),
    [](const auto& spoiled) { return std::string(spoiled.param.name); });

// And those that keep every promise by stopping the guest for ever.
struct StuckProtection : testing::TestWithParam<Spoiled> {};
TEST_P(StuckProtection, HasADeadEnd) {
    const Rules r = rules_with(GetParam().rule);
    const Protection p(r, 2);
    const Explored all = explore(p, r, Faults::Few);
    EXPECT_EQ(first_violation(all, r), "");
    EXPECT_FALSE(dead_ends(all, p, r).empty());
    const Protection healthy({}, 2);
    EXPECT_TRUE(dead_ends(explore(healthy, {}, Faults::Few), healthy, {}).empty())
        << "it is the rule that does it";
}
INSTANTIATE_TEST_SUITE_P(Model, StuckProtection,
                         testing::Values(Spoiled{"AloneIgnoresFence", &Rules::alone_ignores_fence, ""},
                                         Spoiled{"YieldKeepsKey", &Rules::yield_keeps_key, ""},
                                         Spoiled{"HeartbeatCallsInvitedOff",
                                                 &Rules::heartbeat_calls_invited_off, ""}),
                         [](const auto& spoiled) { return std::string(spoiled.param.name); });

}  // namespace
}  // namespace proa::model
