// The tables' rules that can be said without a network; tests/model has the rest.
#include "migrate/switchover.hpp"

#include <gtest/gtest.h>

#include <set>

namespace proa::migrate {
namespace {

template <class E>
std::vector<E> all() {
    std::vector<E> v;
    for (unsigned i = 0; i < static_cast<unsigned>(E::Count); ++i) v.push_back(static_cast<E>(i));
    return v;
}

TEST(Switchover, BeforeTheCommitEveryFailureResumesTheGuest) {
    for (const auto s : {SourceState::Copying, SourceState::Stopped}) {
        EXPECT_EQ(step(s, SourceEvent::Failed).next, SourceState::Resumed);
        EXPECT_EQ(step(s, SourceEvent::Failed).action, SourceAction::ResumeGuest);
    }
}

TEST(Switchover, AfterItOnlyAProofOrAHumanResumesTheGuest) {
    for (const auto s : {SourceState::Committed, SourceState::InDoubt})
        for (const auto e : all<SourceEvent>())
            if (step(s, e).next == SourceState::Resumed) {
                EXPECT_TRUE(e == SourceEvent::AnswerNever ||
                            (e == SourceEvent::OperatorResumes && s == SourceState::InDoubt))
                    << name_of(s) << " on event " << static_cast<int>(e);
            }
}

TEST(Switchover, TheGuestIsReleasedOnlyWhenItIsKnownToRunThere) {
    for (const auto s : all<SourceState>())
        for (const auto e : all<SourceEvent>())
            if (step(s, e).action == SourceAction::ReleaseGuest) {
                EXPECT_TRUE(e == SourceEvent::StartedCame || e == SourceEvent::AnswerStarted);
            }
}

TEST(Switchover, OnlyReadyInStoppedCommits) {
    for (const auto s : all<SourceState>())
        for (const auto e : all<SourceEvent>())
            if (step(s, e).action == SourceAction::SendCommit) {
                EXPECT_TRUE(s == SourceState::Stopped && e == SourceEvent::ReadyCame);
            }
}

TEST(Switchover, TheTargetStartsOnlyWhatItWasGranted) {
    for (const auto s : all<TargetState>())
        for (const auto e : all<TargetEvent>())
            if (step(s, e).action == TargetAction::Start) {
                EXPECT_TRUE(s == TargetState::Claiming && e == TargetEvent::Granted);
            }
}

TEST(Switchover, EndsAreEnds) {
    for (const auto e : all<SourceEvent>())
        for (const auto s : {SourceState::Done, SourceState::Resumed}) {
            EXPECT_EQ(step(s, e).next, s);
            EXPECT_EQ(step(s, e).action, SourceAction::None);
        }
    for (const auto e : all<TargetEvent>())
        for (const auto s : {TargetState::Started, TargetState::NeverStart}) {
            EXPECT_EQ(step(s, e).next, s);
            EXPECT_EQ(step(s, e).action, TargetAction::None);
        }
    for (const auto e : all<SessionEvent>())
        for (const auto s : {SessionState::Started, SessionState::Never}) EXPECT_EQ(step(s, e).next, s);
}

TEST(Switchover, TheRecordGrantsOnceAndPromisesOnlyWhatItKeeps) {
    for (const auto s : all<SessionState>()) {
        const auto claimed = step(s, SessionEvent::Claimed);
        EXPECT_EQ(claimed.answer == SessionAnswer::Granted, s == SessionState::Open);
        const auto asked = step(s, SessionEvent::Asked);
        EXPECT_EQ(asked.answer == SessionAnswer::Never, asked.next == SessionState::Never);
        if (asked.answer == SessionAnswer::Never) {
            EXPECT_EQ(step(asked.next, SessionEvent::Claimed).answer, SessionAnswer::Denied);
        }
    }
    EXPECT_EQ(step(SessionState::Unknown, SessionEvent::Asked).answer, SessionAnswer::DontKnow);
}

TEST(Switchover, EveryStateHasANameOfItsOwn) {
    std::set<std::string> names;
    for (const auto s : all<SourceState>()) names.insert(name_of(s));
    EXPECT_EQ(names.size(), static_cast<std::size_t>(SourceState::Count));
    names.clear();
    for (const auto s : all<TargetState>()) names.insert(name_of(s));
    EXPECT_EQ(names.size(), static_cast<std::size_t>(TargetState::Count));
    names.clear();
    for (const auto s : all<SessionState>()) names.insert(name_of(s));
    EXPECT_EQ(names.size(), static_cast<std::size_t>(SessionState::Count));
}

}  // namespace
}  // namespace proa::migrate
