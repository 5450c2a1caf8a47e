// What the tables promise cell by cell; what they promise together is explored in tests/model.
#include "remus/protection.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace proa::remus {
namespace {

template <class E, class F>
void each(F&& f) {
    for (unsigned i = 0; i < static_cast<unsigned>(E::Count); ++i) f(static_cast<E>(i));
}

TEST(Protection, APrimaryThatIsSupersededOrHasLeftStaysSo) {
    for (const PrimaryState s : {PrimaryState::Superseded, PrimaryState::Left})
        each<PrimaryEvent>([&](PrimaryEvent e) {
            EXPECT_EQ(step(s, e).next, s);
            EXPECT_EQ(step(s, e).action, PrimaryAction::None);
        });
}

TEST(Protection, OnlyASettledKeyTheBackupsWordOrAnUnusedClaimOpensTheOutput) {
    each<PrimaryState>([](PrimaryState s) {
        each<PrimaryEvent>([&](PrimaryEvent e) {
            const PrimaryStep t = step(s, e);
            if (t.action != PrimaryAction::OpenOutput && t.action != PrimaryAction::Resume) return;
            EXPECT_EQ(t.next, PrimaryState::Alone);
            EXPECT_TRUE(s == PrimaryState::Alone || e == PrimaryEvent::Settled || e == PrimaryEvent::BackupGone)
                << name_of(s);
        });
    });
}

TEST(Protection, AStoppedGuestOfAPrimaryThatGoesAloneIsResumedAndNotOnlyOpened) {
    for (const PrimaryState s : {PrimaryState::HandingOver, PrimaryState::Yielded, PrimaryState::Fenced})
        EXPECT_EQ(step(s, PrimaryEvent::BackupGone).action, PrimaryAction::Resume) << name_of(s);
    EXPECT_EQ(step(PrimaryState::Fenced, PrimaryEvent::Settled).action, PrimaryAction::Resume);
    EXPECT_EQ(step(PrimaryState::Alone, PrimaryEvent::FenceFired).action, PrimaryAction::Resume);
}

TEST(Protection, ACopyIsDestroyedOnlyOnProofThatTheBackupHasTheGuest) {
    each<PrimaryState>([](PrimaryState s) {
        each<PrimaryEvent>([&](PrimaryEvent e) {
            if (step(s, e).action != PrimaryAction::Destroy) return;
            EXPECT_TRUE(e == PrimaryEvent::NotOurs || e == PrimaryEvent::TakenOver) << name_of(s);
        });
    });
}

TEST(Protection, OnlySettledLeadsTheBackupToRunTheGuest) {
    each<BackupState>([](BackupState s) {
        each<BackupEvent>([&](BackupEvent e) {
            const BackupStep t = step(s, e);
            if (t.next == s) return;
            if (t.next == BackupState::Starting) {
                EXPECT_EQ(s, BackupState::Deciding);
                EXPECT_EQ(e, BackupEvent::Settled);
            }
            EXPECT_TRUE(t.next != BackupState::Active || s == BackupState::Starting);
            EXPECT_TRUE(t.next != BackupState::Loading || e == BackupEvent::Granted);
        });
    });
}

TEST(Protection, ABackupThatAsksToSettleGivesNoPromiseBeforeItHasAnAnswer) {
    each<BackupEvent>([](BackupEvent e) {
        const BackupStep t = step(BackupState::Deciding, e);
        EXPECT_TRUE(t.next == BackupState::Deciding || e == BackupEvent::Settled ||
                    e == BackupEvent::HeldForGood);
    });
}

TEST(Protection, ADiscardedBackupNeverComesBack) {
    each<BackupEvent>(
        [](BackupEvent e) { EXPECT_EQ(step(BackupState::Discarded, e).next, BackupState::Discarded); });
    EXPECT_EQ(step(BackupState::Discarded, BackupEvent::Granted).action, BackupAction::ReleaseKey);
}

TEST(Protection, AnInvitedBackupIsNotCalledOffByAHeartbeat) {
    EXPECT_EQ(step(BackupState::Claiming, BackupEvent::PrimaryBack).next, BackupState::Standby);
    EXPECT_EQ(step(BackupState::Invited, BackupEvent::PrimaryBack).next, BackupState::Invited);
}

TEST(Protection, EveryStateHasANameOfItsOwn) {
    std::set<std::string> primary, backup;
    each<PrimaryState>([&](PrimaryState s) { primary.insert(name_of(s)); });
    each<BackupState>([&](BackupState s) { backup.insert(name_of(s)); });
    EXPECT_EQ(primary.size(), static_cast<std::size_t>(PrimaryState::Count));
    EXPECT_EQ(backup.size(), static_cast<std::size_t>(BackupState::Count));
}

}  // namespace
}  // namespace proa::remus
