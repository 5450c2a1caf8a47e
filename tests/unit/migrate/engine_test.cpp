// Whole migrations of a fake guest that writes all the while.
#include "tests/support/socket.hpp"
#include "tests/unit/migrate/engine_rig.hpp"
#include "transport/keys.hpp"

namespace proa::migrate {
namespace {

void expect_moved(Rig& r) {
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Done) << o.error.what;
    const auto a = r.arrival();
    ASSERT_TRUE(a);
    EXPECT_EQ(a->state, TargetState::Started) << a->error.what;
    EXPECT_FALSE(r.source.machine().runs());
    EXPECT_TRUE(r.target.machine().runs());
    EXPECT_EQ(r.target.state(), vmm::GuestState::Running);
    EXPECT_EQ(r.target.device(0).state, (std::vector<std::uint8_t>{1, 2, 3}));
    EXPECT_EQ(r.target.device(1).state, (std::vector<std::uint8_t>{4, 5}));
    EXPECT_FALSE(r.target.device(1).quiet) << "devices go on";
    // The target does not write (pages_per_ms is 0 there), so its memory is what arrived.
    EXPECT_TRUE(r.same_memory());
    EXPECT_EQ(r.target.machine().writes(), r.source.machine().writes()) << "state and memory are of one moment";
}

TEST(Engine, AnIdleGuestMoves) {
    Rig r;
    r.start(r.listen());
    expect_moved(r);
}

TEST(Engine, AGuestThatWritesAllTheWhileArrivesWhole) {
    Rig r(8u << 20);
    r.source.machine().pages_per_ms = 5;
    r.start(r.listen());
    expect_moved(r);
    EXPECT_GT(r.source.machine().writes(), 0u);
}

TEST(Engine, OverTlsWithMoreChannelsAndWithoutCompression) {
    test::TemporaryDirectory keys;
    ASSERT_TRUE(transport::init_keys(keys.path(), {"127.0.0.1"}));
    auto channel = Rig::quick();
    channel.tls = transport::Credentials::in(keys / "127.0.0.1");
    Rig r(8u << 20, channel);
    r.out.data_channels = 4;
    r.out.compress = transport::Compressor::kOff;
    r.source.machine().pages_per_ms = 5;
    r.start(r.listen());
    expect_moved(r);
}

TEST(Engine, DeviceModelsWritesTravelToo) {
    Rig r;
    r.out.bandwidth = 4u << 20;  // slow enough to write in the midst of it
    r.start(r.listen());
    for (int i = 0; i < 20; ++i) {
        std::this_thread::sleep_for(5ms);
        if (!r.source.machine().runs()) break;
        r.source.memory().page(5)[0] = static_cast<std::uint8_t>(i);
        r.source.memory().mark_dirty(abi::kRamBase + 5 * 4096, 1);
    }
    expect_moved(r);
}

TEST(Engine, WhatWasWrittenBeforeTheMoveIsSentOnce) {
    Rig r;
    r.source.memory().mark_dirty(abi::kRamBase, 2u << 20);  // as the kernel that it booted from
    r.start(r.listen());
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Done) << o.error.what;
    std::uint64_t pages = 0;
    for (const auto& round : o.stats.rounds) pages += round.pages;
    EXPECT_EQ(pages, r.source.memory().pages());
}

// The guest has used its first 2 MiB; a device model wrote into the third, which an earlier attempt has taken from the list.
TEST(Engine, MemoryThatNobodyHasUsedIsNotSent) {
    Rig r(8u << 20);
    r.source.machine().used_pages = 512;
    r.source.memory().mark_dirty(abi::kRamBase + 1'200 * 4096, 1);
    dirtylog::Bitmap earlier(r.source.memory().pages());
    r.source.memory().take_device_writes(earlier);
    r.target.memory().mark_all_written();  // as proa-vm's of a guest that is to come
    r.start(r.listen());
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Done) << o.error.what;
    ASSERT_TRUE(r.arrival());
    EXPECT_EQ(o.stats.rounds.front().pages, 1'024u);
    EXPECT_EQ(test::chunks_there(r.target.memory(), r.source.memory()), "=0=0");
    dirtylog::Bitmap next(r.target.memory().pages());
    r.target.memory().add_ever_written(next);
    EXPECT_EQ(next.count(), 1'024u) << "nor when it moves on";
}

TEST(Engine, ADirtyingGuestIsThrottledIfAskedToAndNotAfterwards) {
    Rig r(8u << 20);
    r.source.machine().pages_per_ms = 400;
    r.out.bandwidth = 30u << 20;
    r.out.compress = transport::Compressor::kOff;
    r.out.policy.downtime = Seconds(0.04);
    r.out.policy.auto_converge = true;
    r.out.policy.give_up = true;
    r.start(r.listen());
    const auto o = r.outcome();
    EXPECT_GT(r.source.machine().most_throttled, 0u);
    EXPECT_TRUE(o.state == SourceState::Done || o.state == SourceState::Resumed);
    if (o.state == SourceState::Resumed) {
        EXPECT_EQ(r.source.machine().throttle, 0u);
    }
}

TEST(Engine, AGuestThatNeverConvergesStaysIfThatIsTheChoice) {
    Rig r(8u << 20);
    r.source.machine().pages_per_ms = 400;
    r.out.bandwidth = 20u << 20;
    r.out.compress = transport::Compressor::kOff;
    r.out.policy.downtime = Seconds(0.035);
    r.out.policy.give_up = true;
    r.start(r.listen());
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Resumed);
    EXPECT_NE(o.error.what.find("does not converge"), std::string::npos) << o.error.what;
    EXPECT_TRUE(r.source.machine().runs());
    EXPECT_EQ(r.source.machine().mode, abi::DirtyLogMode::Off);
    const auto a = r.arrival();
    ASSERT_TRUE(a);
    EXPECT_EQ(a->state, TargetState::NeverStart);
    EXPECT_NE(a->error.what.find("does not converge"), std::string::npos)
        << "the destination is told: " << a->error.what;
}

TEST(Engine, CancelLeavesTheGuestRunningHere) {
    Rig r(8u << 20);
    r.source.machine().pages_per_ms = 5;
    r.out.bandwidth = 2u << 20;  // seconds' worth
    r.out.compress = transport::Compressor::kOff;
    r.start(r.listen());
    std::this_thread::sleep_for(300ms);
    r.outgoing->cancel();
    const auto o = r.outcome();
    EXPECT_EQ(o.state, SourceState::Resumed);
    EXPECT_TRUE(o.cancelled);
    EXPECT_NE(o.error.what.find("cancelled"), std::string::npos) << o.error.what;
    EXPECT_TRUE(r.source.machine().runs());
    EXPECT_EQ(r.source.state(), vmm::GuestState::Running);
    const auto a = r.arrival();
    ASSERT_TRUE(a);
    EXPECT_EQ(a->state, TargetState::NeverStart);
    EXPECT_FALSE(r.target.machine().ever_ran());
}

TEST(Engine, ProgressNeverRunsBackwards) {
    Rig r(8u << 20);
    r.source.machine().pages_per_ms = 5;
    r.out.bandwidth = 10u << 20;
    r.out.compress = transport::Compressor::kOff;
    r.start(r.listen());
    expect_moved(r);
    double percent = 0, eta = 1e300;
    for (const auto& p : r.progress) {
        EXPECT_GE(p["percent"].get<double>(), percent);
        percent = p["percent"];
        if (!p.contains("eta_ms")) continue;  // nothing measured yet
        EXPECT_LE(p["eta_ms"].get<double>(), eta);
        eta = p["eta_ms"];
    }
    EXPECT_GT(r.progress.size(), 1u);
    EXPECT_LT(eta, 1e300) << "there was an estimate";
}

using Frames = std::vector<std::vector<std::uint8_t>>;

// What the target's guest got, once everything that was posted to its thread is done.
Frames given(Rig& r, std::size_t device) {
    std::promise<Frames> p;
    boost::asio::post(r.target.io(), [&] { p.set_value(r.target.device(device).given); });
    return p.get_future().get();
}

TEST(Engine, FramesThatReachTheSourceWhileTheGuestStandsStillFollowIt) {
    Rig r;
    r.source.device(0).outside = {{1}, {2, 2}};
    r.source.device(1).outside = {{3, 3, 3}};
    r.start(r.listen());
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Done) << o.error.what;
    ASSERT_TRUE(r.arrival());
    EXPECT_EQ(given(r, 0), (Frames{{1}, {2, 2}})) << "in their order";
    EXPECT_EQ(given(r, 1), (Frames{{3, 3, 3}}));
    EXPECT_EQ(o.stats.late_frames, 3u);
}

TEST(Engine, ASourceFloodedWithFramesForwardsAFewAndMovesAllTheSame) {
    Rig r;
    r.source.device(0).outside.assign(2 * kMaxLateFrames, std::vector<std::uint8_t>(1'000, 7));
    r.source.device(1).outside.assign(1, std::vector<std::uint8_t>(kMaxLateFrame + 1));
    r.start(r.listen());
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Done) << o.error.what;
    const auto a = r.arrival();
    ASSERT_TRUE(a);
    EXPECT_EQ(a->state, TargetState::Started);
    EXPECT_EQ(given(r, 0).size(), kMaxLateFrames);
    EXPECT_TRUE(given(r, 1).empty());
    EXPECT_EQ(o.stats.late_frames, kMaxLateFrames);
}

TEST(Engine, FramesThatWereForwardedInVainComeBackToTheGuestHere) {
    Rig r;
    r.target.machine().fail_run = true;
    r.source.device(1).outside = {{9}};
    r.start(r.listen());
    ASSERT_EQ(r.outcome().state, SourceState::Resumed);
    EXPECT_EQ(r.source.device(1).given, (Frames{{9}}));
}

TEST(Engine, AMoveThatFailsBeforeTheCommitLosesNoFrames) {
    Rig r;
    r.target.machine().fail_load = true;
    r.source.device(1).outside = {{9}};
    r.start(r.listen());
    ASSERT_EQ(r.outcome().state, SourceState::Resumed);
    auto kept = r.source.device(1).outside;
    kept.insert(kept.end(), r.source.device(1).given.begin(), r.source.device(1).given.end());
    EXPECT_EQ(kept, (Frames{{9}})) << "they wait where they came, or have come back";
}

TEST(Engine, TheDowntimeIsToldInPartsThatSumUp) {
    Rig r;
    r.start(r.listen());
    const auto o = r.outcome();
    ASSERT_EQ(o.state, SourceState::Done) << o.error.what;
    const auto j = to_json(o.stats);
    double sum = 0;
    for (const char* part : {"freeze_ms", "state_ms", "last_pages_ms", "ready_ms", "start_ms"}) {
        EXPECT_GT(j["downtime"][part].get<double>(), 0) << part;
        sum += j["downtime"][part].get<double>();
    }
    EXPECT_EQ(j["downtime"].size(), 5u);
    EXPECT_NEAR(j["downtime_ms"].get<double>(), sum, 1e-6);
    EXPECT_LE(sum, static_cast<double>(o.stats.total_ms) + 1);
}

TEST(Engine, AStrangersTokenOpensNothingAndHarmsNothing) {
    Rig r;
    const auto port = r.listen();
    auto c = transport::dial("127.0.0.1", port, Rig::quick());
    ASSERT_TRUE(c);
    ASSERT_TRUE(send(**c, Record::Hello, encode_hello({kStreamVersion, 0, 2, random_token()})));
    EXPECT_FALSE(expect(**c, Record::Welcome));
    r.start(port);
    expect_moved(r);
}

// Nothing listens there. A dirty log that is on is somebody else's.
TEST(Engine, AMoveThatNeverBeganLeavesTheDirtyLogAlone) {
    Rig r;
    r.source.machine().mode = abi::DirtyLogMode::WriteProtect;
    r.start(test::ListeningSocket().port());
    EXPECT_EQ(r.outcome().state, SourceState::Resumed);
    EXPECT_EQ(r.source.machine().mode, abi::DirtyLogMode::WriteProtect);
    EXPECT_TRUE(r.source.machine().runs());
}

TEST(Engine, AnotherStreamVersionIsToldWhatThisHostSpeaks) {
    Rig r;
    const auto port = r.listen();
    auto c = transport::dial("127.0.0.1", port, Rig::quick());
    ASSERT_TRUE(c);
    ASSERT_TRUE(send(**c, Record::Hello, encode_hello({99, 0, 2, r.in.token})));
    const auto w = expect(**c, Record::Welcome);
    ASSERT_FALSE(w);
    EXPECT_NE(w.error().what.find("stream version 99"), std::string::npos) << w.error().what;
}

TEST(Engine, ATargetNobodyComesToGivesUp) {
    Rig r;
    r.in.first_contact = 100ms;
    (void)r.listen();
    const auto a = r.arrival();
    ASSERT_TRUE(a);
    EXPECT_EQ(a->state, TargetState::NeverStart);
}

TEST(Engine, AQuietDataChannelIsNotADeadOne) {
    auto channel = Rig::quick();
    channel.io_timeout = 200ms;
    Rig r(8u << 20, channel);
    // All that is not zero is in channel 1's chunks, and takes many deadlines to send.
    std::fill(r.source.memory().bytes().begin() + (2 << 20), r.source.memory().bytes().end(), std::uint8_t{0});
    r.out.bandwidth = 2u << 20;
    r.out.compress = transport::Compressor::kOff;
    r.start(r.listen());
    expect_moved(r);
}

}  // namespace
}  // namespace proa::migrate
