// Protection begins, goes on, is given up: while both hosts live.
#include "tests/support/faulty_link.hpp"
#include "tests/unit/remus/pair.hpp"

namespace proa::remus {
namespace {

TEST(Protection, CheckpointsFollowEachOtherAndAreCounted) {
    Pair p;
    p.protect_well();
    EXPECT_EQ(p.backup->state(), BackupState::Standby);
    EXPECT_FALSE(p.second.machine().ever_ran());
    EXPECT_TRUE(p.first.machine().has_fence());
    nlohmann::json j;
    p.primary->status(j);
    EXPECT_EQ(j.at("state"), "protected");
    EXPECT_GT(j.at("epoch"), 2u);
    EXPECT_GT(j.at("checkpoints_per_s"), 0.0);
    EXPECT_EQ(p.service.holder("fake")->host, "A");
    EXPECT_FALSE(p.service.holder("fake")->settled);
}

// The guest has used its first 2 MiB, and a device model has written into the third; what has never been used is zero there.
TEST(Protection, MemoryThatNobodyHasUsedIsNotCopied) {
    Pair p(8u << 20);
    p.first.machine().pages_per_ms = 0;
    p.first.machine().used_pages = 512;
    p.first.memory().mark_dirty(abi::kRamBase + 1'200 * 4096, 1);
    p.protect_well();
    nlohmann::json j;
    p.primary->status(j);
    std::string events;
    for (const auto& e : j.at("events")) events += e.at("what").get<std::string>() + "; ";
    EXPECT_NE(events.find("memory is copied: 1024 pages; protected; checkpoint 1 is there: 0 pages"),
              std::string::npos)
        << events;
    migrate::on_guest(p.first, [&] { return p.first.machine().pause(); });
    p.primary->hand_over();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Left)) << p.primary_said.why();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Active));
    EXPECT_EQ(test::chunks_there(p.second.memory(), p.first.memory()), "=0=0");
}

// The standby's memory isn't there before the test says so.
struct SlowMemory {
    std::atomic<bool> there = false;
    std::atomic<unsigned> asked = 0;
};
struct SlowPair : SlowMemory, Pair {
    SlowPair() {
        second.memory_comes = [this] {
            ++asked;
            std::this_thread::sleep_for(1ms);
            return vmm::Result<bool>(there.load());
        };
    }
};

// However long that takes: longer than a silent link is waited for, and not with the guest's output.
TEST(Protection, TheGuestIsFreeUntilTheStandbysMemoryIsThere) {
    SlowPair p;
    p.out.channel.io_timeout = p.in.channel.io_timeout = 500ms;
    p.protect();
    const auto since = std::chrono::steady_clock::now();
    ASSERT_TRUE(eventually([&] { return std::chrono::steady_clock::now() - since > 700ms && p.asked > 3; }));
    EXPECT_EQ(p.primary->state(), PrimaryState::Syncing);
    p.speak(p.first);
    EXPECT_EQ(p.first.output()->left().size(), 1u) << "nothing holds it";
    EXPECT_FALSE(p.first.machine().has_fence());
    p.there = true;
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Protected)) << p.primary_said.why();
    ASSERT_TRUE(eventually([&] { return p.epoch() > 3; }));
}

TEST(Protection, ItCanBeStoppedWhileItWaitsForTheStandbysMemory) {
    SlowPair p;
    p.protect();
    ASSERT_TRUE(eventually([&] { return p.asked > 3; }));
    p.primary->stop();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Unprotected));
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    EXPECT_TRUE(p.first.machine().runs());
}

TEST(Protection, AStandbyWithoutMemoryEndsItBeforeTheFirstCheckpoint) {
    Pair p;
    p.second.memory_comes = [] { return vmm::Result<bool>(vmm::fail("injected: no memory")); };
    p.protect();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Unprotected));
    EXPECT_NE(p.primary_said.why().find("injected: no memory"), std::string::npos) << p.primary_said.why();
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.first.output()->holds());
    EXPECT_FALSE(p.first.machine().has_fence());
}

// With the lease nearly over, the first pause would arm a fence that stops the guest at once.
TEST(Protection, AWitnessThatHasGoneSilentMeanwhileEndsItBeforeTheFenceIsArmed) {
    SlowPair p;
    p.protect();
    ASSERT_TRUE(eventually([&] { return p.asked > 1; }));
    p.witness_a->cut();
    const auto calls = p.witness_a->calls();
    ASSERT_TRUE(eventually([&] { return p.witness_a->calls() > calls + 1; }))
        << "no renewal is on its way any more";
    p.first.machine().pass(p.out.lease.ttl);
    p.there = true;
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Unprotected));
    EXPECT_EQ(p.primary_said.why(), "the witness doesn't answer");
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.first.machine().has_fence());
    EXPECT_FALSE(p.first.output()->holds());
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
}

TEST(Protection, AGuestWhoseFirstCheckpointFailsInItsPauseGoesOn) {
    Pair p;
    p.first.machine().fail_hold = true;
    p.protect();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Unprotected));
    EXPECT_NE(p.primary_said.why().find("injected: cannot hold"), std::string::npos) << p.primary_said.why();
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.first.device(0).quiet);
    EXPECT_FALSE(p.first.output()->holds());
}

TEST(Protection, OutputLeavesOnlyOnceItsCheckpointIsAcknowledged) {
    Pair p;
    p.protect_well();
    for (unsigned i = 0; i < 50; ++i) {
        p.speak(p.first);
        // Whatever has left by now is covered by a checkpoint the backup has.
        const auto said = Pair::last_said(p.first);
        std::this_thread::yield();
        (void)said;
    }
    EXPECT_TRUE(eventually([&] { return p.first.output()->left().size() == 50; }))
        << "all of it leaves in the end";
    const auto left = p.first.output()->left();
    EXPECT_TRUE(std::is_sorted(left.begin(), left.end())) << "in order";
}

TEST(Protection, StoppingItLeavesTheGuestRunningAloneAndTheBackupGoes) {
    Pair p;
    p.protect_well();
    p.speak(p.first);
    p.primary->stop();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.second.machine().ever_ran());
    EXPECT_FALSE(p.first.output()->holds());
    EXPECT_EQ(p.first.output()->left().size(), 1u);
    EXPECT_FALSE(p.first.machine().has_fence());
    EXPECT_EQ(p.first.machine().mode, abi::DirtyLogMode::Off);
    EXPECT_TRUE(p.service.holder("fake")->settled);
}

TEST(Protection, ItCanBeginAgainAfterItEnded) {
    Pair p;
    p.protect_well();
    p.primary->stop();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Alone));
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    const auto term = p.service.holder("fake")->term;
    p.primary.reset();
    p.backup.reset();
    p.out.port = 0;
    migrate::on_guest(p.first, [] { return 0; });  // the last it had to say has been said
    p.primary_said.forget();
    p.protect_well();
    EXPECT_GT(p.service.holder("fake")->term, term);
    EXPECT_FALSE(p.service.holder("fake")->settled);
}

TEST(Protection, AGuestThatAnotherHostHoldsIsNotProtected) {
    Pair p;
    (void)p.witness_b->claim("fake", "C", std::string(64, 'c'), 3s, 0);
    p.protect();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Unprotected));
    EXPECT_NE(p.primary_said.why().find("C runs"), std::string::npos) << p.primary_said.why();
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.first.output()->holds());
}

TEST(Protection, WithoutABackupToTalkToNothingChanges) {
    Pair p;
    p.out.port = 1;  // nobody
    p.protect();
    ASSERT_TRUE(p.primary_said.wait(PrimaryState::Unprotected));
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_FALSE(p.service.holder("fake")) << "the key was given back";
}

TEST(Protection, AStrangerAtTheBackupsDoorIsSentAway) {
    Pair p;
    p.listen();
    auto c = transport::dial("127.0.0.1", p.backup->port(), p.in.channel);
    ASSERT_TRUE(c);
    HelloRecord h;
    h.term = 1;
    ASSERT_TRUE(send(**c, Record::Hello, encode(h)));
    auto answer = migrate::receive(**c);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(migrate::is(*answer, migrate::Record::Abort));
    p.protect_well();
    EXPECT_EQ(p.backup->state(), BackupState::Standby);
}

TEST(Protection, ABackupThatRefusesTheStateIsNotReliedOn) {
    Pair p;
    p.second.machine().fail_load = true;
    p.protect();
    ASSERT_TRUE(p.backup_said.wait(BackupState::Discarded));
    ASSERT_TRUE(eventually([&] {
        return p.primary->state() == PrimaryState::Alone || p.primary->state() == PrimaryState::Unprotected;
    }));
    EXPECT_TRUE(p.first.machine().runs());
    EXPECT_TRUE(eventually([&] { return !p.first.output()->holds(); }));
}

// One frame after the other is damaged: the guest runs on, alone or protected, and nobody else runs it.
TEST(Protection, ADamagedFrameCostsTheProtectionAtMost) {
    for (int at = 0; at < 36; at += 3) {
        Pair p(2u << 20);
        p.listen();
        test::FaultyLink link(p.backup->port(), test::Fault::Corrupt, at);
        p.out.port = link.port();
        p.out.detector = p.in.detector = {20ms, 600};
        p.protect();
        ASSERT_TRUE(eventually([&] { return link.victim() != 0; })) << at;
        ASSERT_TRUE(eventually([&] {
            const auto s = p.primary->state();
            return s == PrimaryState::Alone || s == PrimaryState::Unprotected;
        })) << "frame "
            << at << " of type " << link.victim() << ": " << name_of(p.primary->state());
        EXPECT_TRUE(eventually([&] { return p.first.machine().runs(); }));
        EXPECT_FALSE(p.second.machine().ever_ran());
        EXPECT_TRUE(eventually([&] { return !p.first.output()->holds(); }));
    }
}

}  // namespace
}  // namespace proa::remus
