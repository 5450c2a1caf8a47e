// A migration that something happens to, at each of its frames: whatever it is, exactly one whole guest runs afterwards
// and both sides know which.
#include "tests/support/faulty_link.hpp"
#include "tests/unit/migrate/engine_rig.hpp"

namespace proa::migrate {
namespace {

using test::Fault;

std::string name_of_fault(Fault f) {
    return f == Fault::Cut ? "cut" : f == Fault::Corrupt ? "corrupt" : "repeat";
}

// One migration with `fault` at frame `at`; false if there were fewer frames.
bool survives(Fault fault, int at) {
    Rig r(2u << 20);
    const std::vector<std::uint8_t> before(r.source.memory().bytes().begin(), r.source.memory().bytes().end());
    test::FaultyLink link(r.listen(), fault, at);
    r.start(link.port());
    const auto o = r.outcome();
    const auto a = r.arrival();
    const std::string where = name_of_fault(fault) + " at frame " + std::to_string(at) + ", record " +
                              std::to_string(link.victim() & 0x7fff) + ": " + o.error.what;
    EXPECT_TRUE(a) << where << ": the target hangs";
    EXPECT_EQ(r.running(), 1u) << where;
    const bool moved = r.target.machine().ever_ran();
    EXPECT_EQ(o.state, moved ? SourceState::Done : SourceState::Resumed) << where;
    if (a) {
        EXPECT_EQ(a->state, moved ? TargetState::Started : TargetState::NeverStart) << where;
    }
    auto& lives = moved ? r.target : r.source;
    EXPECT_EQ(lives.state(), vmm::GuestState::Running) << where;
    EXPECT_FALSE(lives.device(1).quiet) << where;
    auto ram = lives.memory().bytes();
    EXPECT_TRUE(std::equal(ram.begin(), ram.end(), before.begin())) << where;
    if (!moved) {
        EXPECT_EQ(r.source.machine().mode, abi::DirtyLogMode::Off) << where;
        EXPECT_FALSE(o.error.what.empty()) << where;
    }
    const auto victim = static_cast<Record>(link.victim());
    if (link.victim() != 0 && victim != Record::Started && fault != Fault::Repeat) {
        EXPECT_FALSE(moved) << where << ": before the commit arrives the source goes on";
    }
    return link.victim() != 0;
}

class EngineFault : public testing::TestWithParam<Fault> {};
TEST_P(EngineFault, AtEachFrameExactlyOneWholeGuestRunsAfterwards) {
    int frames = 0;
    while (survives(GetParam(), frames) && !HasFailure()) ++frames;
    EXPECT_GT(frames, 20) << "hellos, pages, rounds, state, commit: all were hit";
}
INSTANTIATE_TEST_SUITE_P(Kinds, EngineFault, testing::Values(Fault::Cut, Fault::Corrupt, Fault::Repeat),
                         [](const auto& p) { return name_of_fault(p.param); });

// After a failed attempt the next one starts from every page, with whatever was written meanwhile.
TEST(Engine, AnAttemptAfterAFailedOneMovesEverything) {
    Rig r(4u << 20);
    r.source.machine().pages_per_ms = 5;
    {
        test::FaultyLink link(r.listen(), Fault::Cut, 14);
        r.start(link.port());
        ASSERT_EQ(r.outcome().state, SourceState::Resumed);
        ASSERT_TRUE(r.arrival());
    }
    r.outgoing.reset();
    r.incoming.reset();
    std::this_thread::sleep_for(20ms);  // the guest writes on, unlogged
    r.target.set_state(vmm::GuestState::Incoming);
    r.out.token = r.in.token = random_token();
    ASSERT_TRUE(Session(r.in.sessions, r.in.token).apply(SessionEvent::Prepared));
    r.arrived = {};
    r.left = {};
    r.start(r.listen());
    ASSERT_EQ(r.outcome().state, SourceState::Done);
    ASSERT_TRUE(r.arrival());
    EXPECT_TRUE(r.same_memory());
}

TEST(Engine, AStateThatTheTargetRefusesResumesTheSourceWithTheReason) {
    Rig r;
    r.target.machine().fail_load = true;
    r.start(r.listen());
    const auto o = r.outcome();
    EXPECT_EQ(o.state, SourceState::Resumed);
    EXPECT_NE(o.error.what.find("injected: state refused"), std::string::npos) << o.error.what;
    EXPECT_TRUE(r.source.machine().runs());
    EXPECT_FALSE(r.source.device(0).quiet);
}

TEST(Engine, MemoryThatCannotBeHadThereEndsTheMoveBeforeTheGuestStops) {
    Rig r;
    r.target.memory_comes = [] { return vmm::Result<bool>(vmm::fail("injected: no memory")); };
    r.start(r.listen());
    const auto o = r.outcome();
    EXPECT_EQ(o.state, SourceState::Resumed);
    EXPECT_NE(o.error.what.find("injected: no memory"), std::string::npos) << o.error.what;
    EXPECT_EQ(o.stats.downtime.freeze_ms, 0.0) << "it was never stopped";
    EXPECT_TRUE(r.source.machine().runs());
    EXPECT_FALSE(r.target.machine().ever_ran());
}

TEST(Engine, TheGuestRunsOnUntilItsMemoryIsThere) {
    Rig r;
    std::promise<void> asked;
    std::atomic<unsigned> times = 0;
    std::atomic<bool> there = false;
    r.target.memory_comes = [&] {
        if (++times == 2) asked.set_value();
        std::this_thread::sleep_for(1ms);
        return vmm::Result<bool>(there.load());
    };
    r.start(r.listen());
    asked.get_future().wait();
    std::this_thread::sleep_for(20ms);
    EXPECT_TRUE(r.source.machine().runs());
    there = true;
    EXPECT_EQ(r.outcome().state, SourceState::Done);
    EXPECT_TRUE(r.arrival());
}

TEST(Engine, AGuestThatCannotRunThereGoesOnHereEvenAfterTheCommit) {
    Rig r;
    r.target.machine().fail_run = true;
    r.start(r.listen());
    const auto o = r.outcome();
    EXPECT_EQ(o.state, SourceState::Resumed) << o.error.what;
    EXPECT_TRUE(r.source.machine().runs());
    EXPECT_EQ(Session(r.in.sessions, r.in.token).state(), SessionState::Never);
    const auto a = r.arrival();
    ASSERT_TRUE(a);
    EXPECT_EQ(a->state, TargetState::NeverStart);
}

TEST(Engine, ATargetThatWasPromisedNeverToStartRefusesTheCommit) {
    Rig r;
    const auto port = r.listen();
    ASSERT_EQ(r.ask(), SourceEvent::AnswerNever);  // as after a lost link and a restarted daemon
    r.start(port);
    const auto o = r.outcome();
    EXPECT_EQ(o.state, SourceState::Resumed) << o.error.what;
    EXPECT_FALSE(r.target.machine().ever_ran());
    EXPECT_TRUE(r.source.machine().runs());
}

// The frame of the commit is cut and the destination's host can't be asked: the source waits, paused, for an answer.
struct Doubt : testing::Test {
    void reach(Record lost) {
        const std::uint16_t type = static_cast<std::uint16_t>(lost);
        for (int at = 10; at < 60; ++at) {  // find the frame
            rig = std::make_unique<Rig>(2u << 20);
            rig->reachable = false;
            link = std::make_unique<test::FaultyLink>(rig->listen(), Fault::Cut, at);
            rig->start(link->port());
            outcome = rig->outcome();
            ASSERT_TRUE(rig->arrival());
            if (link->victim() == type) return;
            link.reset();
        }
        FAIL() << "no such frame";
    }
    SourceState resolve() {
        std::promise<SourceState> p;
        on_guest([&] { rig->outgoing->resolve([&](SourceState s) { p.set_value(s); }); });
        return p.get_future().get();
    }
    void on_guest(std::function<void()> f) {
        std::packaged_task<void()> task(std::move(f));
        auto done = task.get_future();
        boost::asio::post(rig->source.io(), [&] { task(); });
        done.get();
    }
    std::unique_ptr<Rig> rig;
    std::unique_ptr<test::FaultyLink> link;
    Outgoing::Outcome outcome;
};

TEST_F(Doubt, StaysPausedSaysWhatToDoAndResumesOnAPromise) {
    reach(Record::Commit);
    EXPECT_EQ(outcome.state, SourceState::InDoubt);
    EXPECT_NE(outcome.error.remedy.find("--resolve"), std::string::npos);
    EXPECT_EQ(rig->source.state(), vmm::GuestState::InDoubt);
    EXPECT_EQ(rig->running(), 0u);
    rig->outgoing->cancel();
    EXPECT_EQ(rig->running(), 0u) << "it is too late to cancel";
    EXPECT_EQ(resolve(), SourceState::InDoubt);
    rig->reachable = true;
    EXPECT_EQ(resolve(), SourceState::Resumed);
    EXPECT_TRUE(rig->source.machine().runs());
    EXPECT_EQ(rig->source.state(), vmm::GuestState::Running);
    EXPECT_FALSE(rig->source.device(0).quiet);
    EXPECT_EQ(rig->source.machine().mode, abi::DirtyLogMode::Off);
}

TEST_F(Doubt, EndsWithTheGuestThereIfItStarted) {
    reach(Record::Started);
    EXPECT_EQ(outcome.state, SourceState::InDoubt);
    EXPECT_FALSE(rig->source.machine().runs());
    EXPECT_TRUE(rig->target.machine().runs());
    rig->reachable = true;
    EXPECT_EQ(resolve(), SourceState::Done);
    EXPECT_EQ(rig->running(), 1u);
}

TEST_F(Doubt, AHumanMayVouchThatTheDestinationIsDead) {
    reach(Record::Commit);
    on_guest([&] { rig->outgoing->resume(); });
    EXPECT_TRUE(rig->source.machine().runs());
    EXPECT_EQ(rig->outgoing->state(), SourceState::Resumed);
}

}  // namespace
}  // namespace proa::migrate
