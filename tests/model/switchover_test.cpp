// Every interleaving of a switchover with loss, duplication, reordering, delay, lost links, crashes and restarts.
#include <gtest/gtest.h>

#include <set>

#include "tests/model/explorer.hpp"
#include "tests/model/switchover_model.hpp"

namespace proa::model {
namespace {

// The first state that breaks a promise, told as a story; empty if none does.
std::string first_violation(const Rules& rules, std::size_t* states = nullptr) {
    const Switchover protocol(rules);
    const Explorer<World> all(World{}, [&](const World& w, auto&& visit) { protocol.next(w, visit); });
    if (states != nullptr) *states = all.size();
    for (std::size_t i = 0; i < all.size(); ++i) {
        const World& w = all[i];
        const char* wrong = nullptr;
        if (w.source_runs && w.target_runs)
            wrong = "two copies run";
        else if (w.source_runs && w.target_ever_ran)
            wrong = "the source runs on after the target did";
        else if (w.source == SourceState::Resumed && w.committed && !w.promised)
            wrong = "the source resumed after the commit without a promise";
        else if (w.promised && w.target_ever_ran)
            wrong = "the target ran although it was promised never to";
        else if (w.source == SourceState::Done && !w.target_ever_ran)
            wrong = "both sides gave the guest up";
        else if (w.source_alive && !w.committed && w.source != SourceState::Stopped && !w.source_runs)
            wrong = "a failure before the commit left the source stopped";
        if (wrong != nullptr) return wrong + all.story(i);
    }
    return "";
}

TEST(SwitchoverModel, NoInterleavingBreaksAPromise) {
    std::size_t states = 0;
    EXPECT_EQ(first_violation({}, &states), "");
    EXPECT_GT(states, 5'000u) << "the explorer explores";
    RecordProperty("states", static_cast<int>(states));
}

TEST(SwitchoverModel, NorDoesAHostThatForgetsItsRecordsWhenItDies) {
    Rules r;
    r.record_survives_a_crash = false;
    EXPECT_EQ(first_violation(r), "");
}

// The explorer must find what is wrong with protocols that are.
TEST(SwitchoverModel, ItFindsWhatIsWrongWithWorseProtocols) {
    Rules r;
    r.unknown_means_never = true;
    r.record_survives_a_crash = false;
    EXPECT_NE(first_violation(r), "") << "a host that lost its record must not promise anything";
    r = {};
    r.unknown_means_never = true;
    EXPECT_NE(first_violation(r), "") << "nor one whose receiver is just starting the guest";
    r = {};
    r.promise_is_forgotten = true;
    EXPECT_NE(first_violation(r), "") << "Never must be remembered before it is answered";
    r = {};
    r.start_without_claim = true;
    EXPECT_NE(first_violation(r), "") << "the record must move before the guest runs";
    r = {};
    r.doubt_resumes = true;
    EXPECT_NE(first_violation(r), "") << "a source in doubt must not resume";
}

// No state is a dead end: with no further fault but what has happened, and with --resolve asking again, the source ends
// Done or Resumed. The exceptions are the documented doubt: no record is left, or the process died between claiming the
// start and recording that it ran, so that nobody can know.
TEST(SwitchoverModel, EveryStateButDocumentedDoubtCanEnd) {
    for (const bool survives : {true, false}) {
        Rules rules;
        rules.record_survives_a_crash = survives;
        const Switchover protocol(rules);
        const Explorer<World> all(World{}, [&](const World& w, auto&& visit) { protocol.next(w, visit); });
        const auto over = [](const World& w) {
            return !w.source_alive || w.source == SourceState::Done || w.source == SourceState::Resumed;
        };
        const auto fair = [&](const World& w, auto&& visit) { protocol.next(w, visit, false); };
        std::size_t doubts = 0;
        for (const std::size_t i : all.cannot_reach(over, fair)) {
            const World& w = all[i];
            const bool nobody_knows =
                w.record == SessionState::Unknown || (w.record == SessionState::Starting && !w.target_alive);
            EXPECT_TRUE(nobody_knows) << "a dead end:" << all.story(i);
            EXPECT_FALSE(w.source_runs);
            EXPECT_TRUE(w.source == SourceState::InDoubt || w.source == SourceState::Committed);
            ++doubts;
            if (!nobody_knows) return;
        }
        EXPECT_GT(doubts, 0u) << "doubt exists, or this test looks at nothing";
    }
}

// A state or an event that no interleaving reaches would be untested (or dead) code.
TEST(SwitchoverModel, EveryStateOfEveryMachineIsReached) {
    std::set<SourceState> sources;
    std::set<TargetState> targets;
    std::set<SessionState> records;
    Rules rules;
    rules.record_survives_a_crash = false;
    const Switchover protocol(rules);
    const Explorer<World> all(World{}, [&](const World& w, auto&& visit) { protocol.next(w, visit); });
    for (std::size_t i = 0; i < all.size(); ++i) {
        sources.insert(all[i].source);
        targets.insert(all[i].target);
        records.insert(all[i].record);
    }
    EXPECT_EQ(sources.size(), static_cast<std::size_t>(SourceState::Count));
    EXPECT_EQ(targets.size(), static_cast<std::size_t>(TargetState::Count));
    EXPECT_EQ(records.size(), static_cast<std::size_t>(SessionState::Count));
}

}  // namespace
}  // namespace proa::model
