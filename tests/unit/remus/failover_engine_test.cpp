// One of the two hosts, a link or the witness fails.
#include "tests/support/faulty_link.hpp"
#include "tests/unit/remus/pair.hpp"

namespace proa::remus {
namespace {

// A pair whose link can be cut.
struct Linked : Pair {
    Linked() {
        listen();
        link = std::make_unique<test::FaultyLink>(backup->port(), test::Fault::None, -1);
        out.port = link->port();
    }
    // What the loss of the primary's host does, as far as others see it.
    void lose_primary() {
        witness_a->cut();
        link->cut();
        first.machine().reach_fence();
        service.advance(600s);
    }
    std::unique_ptr<test::FaultyLink> link;
};

TEST(Failover, TheBackupGoesOnFromTheLastCheckpointAndForgetsNoOutput) {
    Linked p;
    p.protect_well();
    for (unsigned i = 0; i < 30; ++i) p.speak(p.first);
    ASSERT_TRUE(eventually([&] { return !p.first.output()->left().empty(); }));
    p.speak(p.first);
    p.lose_primary();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Active)) << p.backup_said.why();
    EXPECT_TRUE(p.second.machine().runs());
    EXPECT_TRUE(p.never_two());
    EXPECT_GE(p.second.machine().writes(), Pair::last_said(p.first))
        << "a client was told what the failover forgot";
    EXPECT_EQ(p.second.device(0).state, (std::vector<std::uint8_t>{1, 2, 3}));
    nlohmann::json j;
    p.backup->status(j);
    EXPECT_TRUE(j.at("failover").is_object()) << j;
    EXPECT_TRUE(p.service.holder("fake")->settled);
    EXPECT_EQ(p.service.holder("fake")->host, "B");
}

TEST(Failover, AnOldPrimaryThatComesBackFindsItselfSuperseded) {
    Linked p;
    p.protect_well();
    p.lose_primary();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Active));
    ASSERT_TRUE(eventually([&] { return p.primary->state() == PrimaryState::Fenced; }));
    p.speak(p.first);
    p.witness_a->cut(false);
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Superseded));
    EXPECT_FALSE(p.first.machine().runs());
    EXPECT_TRUE(p.second.machine().runs());
    const auto said = p.first.output()->left().size();
    p.speak(p.first);
    EXPECT_EQ(p.first.output()->left().size(), said) << "nothing of it is heard any more";
}

TEST(Failover, ALinkThatIsCutLeavesThePrimaryRunningAlone) {
    Linked p;
    p.protect_well();
    p.link->cut();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.second.machine().ever_ran());
    EXPECT_FALSE(p.first.output()->holds());
}

TEST(Failover, ABackupCutOffForLongNeverComesBackWithAnOldCopy) {
    Linked p;
    p.protect_well();
    p.witness_b->cut();
    p.link->cut();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
    EXPECT_TRUE(eventually([&] { return p.backup->state() == BackupState::Claiming; }));
    (void)p.witness_a->release("fake", p.out.session);  // the guest has been shut down since
    p.witness_b->cut(false);
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    EXPECT_FALSE(p.second.machine().ever_ran());
}

TEST(Failover, TheWitnessGoneAloneIsOnlyAFence) {
    Linked p;
    // No renewal notices that the lease runs out: the pair would part in peace, as in the next test.
    p.out.lease.renew_every = 500s;
    p.protect_well();
    ASSERT_TRUE(p.witness_a->wait_renewals(1));
    p.witness_a->cut();
    p.witness_b->cut();
    p.first.machine().reach_fence();
    ASSERT_TRUE(eventually([&] { return p.primary->state() == PrimaryState::Fenced; }));
    EXPECT_FALSE(p.first.machine().runs());
    EXPECT_FALSE(p.second.machine().runs());
    // It comes back, and the primary was first: it goes on.
    p.witness_a->cut(false);
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
    EXPECT_TRUE(eventually([&] { return p.first.machine().runs(); }));
    p.witness_b->cut(false);
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    EXPECT_FALSE(p.second.machine().ever_ran());
}

// While the fence is only near, the two that are left can agree without a witness.
TEST(Failover, AWitnessThatStaysAwayCostsTheProtectionAndNotTheGuest) {
    Linked p;
    p.protect_well();
    p.witness_a->cut();
    p.witness_b->cut();
    p.first.machine().pass(500s);
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
    EXPECT_NE(p.primary_said.why().find("witness"), std::string::npos) << p.primary_said.why();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    p.first.machine().reach_fence();
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.first.output()->holds());
    EXPECT_FALSE(p.second.machine().ever_ran());
}

// The fence fires between the question to the backup and its answer: the answer is as good as before.
TEST(Failover, AFenceThatFiresJustBeforeTheBackupsWordIsHeardOfAndUndone) {
    for (unsigned i = 0; i < 20; ++i) {
        Linked p;
        p.protect_well();
        p.witness_a->cut();
        p.witness_b->cut();
        p.primary->stop();
        while (p.primary->state() == PrimaryState::Protected) std::this_thread::yield();
        p.first.machine().reach_fence();
        ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
        EXPECT_TRUE(eventually([&] { return p.first.machine().runs(); }));
        EXPECT_FALSE(p.second.machine().ever_ran());
    }
}

TEST(Failover, AClaimWhoseAnswerWasLostIsFoundAgain) {
    Linked p;
    p.protect_well();
    p.witness_b->lose_answers(2);
    p.lose_primary();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Active)) << p.backup_said.why();
    EXPECT_TRUE(p.never_two());
}

TEST(Failover, ABackupThatCannotStartLeavesTheKeyToThePrimary) {
    Linked p;
    p.protect_well();
    p.second.machine().fail_run = true;
    p.lose_primary();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    EXPECT_FALSE(p.service.holder("fake"));
}

TEST(Failover, APlannedOneMovesTheGuestAsItIs) {
    Linked p;
    p.protect_well();
    p.second.machine().pages_per_ms = 0;
    p.speak(p.first);
    p.primary->hand_over();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Left)) << p.primary_said.why();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Active));
    EXPECT_FALSE(p.first.machine().runs());
    EXPECT_TRUE(p.second.machine().runs());
    EXPECT_EQ(p.second.machine().writes(), p.first.machine().writes()) << "nothing is lost by a planned one";
    EXPECT_TRUE(std::ranges::equal(p.first.memory().bytes(), p.second.memory().bytes()));
    EXPECT_EQ(p.first.output()->left().size(), 1u) << "the last output left before the guest did";
}

// Whichever frame of the handing over is the last that passes: one copy runs in the end, whole.
TEST(Failover, APlannedOneCutShortAnywhereLeavesOneCopy) {
    for (int more = 0; more < 24; ++more) {
        Linked p;
        p.protect_well();
        test::FaultyLink* const link = p.link.get();
        p.primary->hand_over();
        const int from = link->frames();
        ASSERT_TRUE(eventually(
            [&] { return link->frames() >= from + more || p.primary->state() == PrimaryState::Left; }));
        link->cut();
        ASSERT_TRUE(eventually([&] {
            const auto a = p.primary->state();
            return a == PrimaryState::Left || a == PrimaryState::Alone || a == PrimaryState::Superseded;
        })) << more
            << ": " << name_of(p.primary->state()) << ", " << name_of(p.backup->state());
        ASSERT_TRUE(eventually([&] {
            return p.backup->state() == BackupState::Active || p.backup->state() == BackupState::Discarded;
        })) << more
            << ": " << name_of(p.primary->state()) << ", " << name_of(p.backup->state());
        EXPECT_NE(p.primary->state() == PrimaryState::Alone, p.backup->state() == BackupState::Active);
        EXPECT_TRUE(eventually([&] { return p.first.machine().runs() != p.second.machine().runs(); }));
    }
}

}  // namespace
}  // namespace proa::remus
