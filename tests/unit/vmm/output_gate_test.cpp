// The gate before a guest's network port: what is held, for how long, in which order, and who waits when it is full.
#include "vmm/virtio/output_gate.hpp"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/vmm/virtio_rig.hpp"

namespace proa::vmm {
namespace {

struct Gate {
    explicit Gate(std::size_t room = OutputGates::kDefaultRoom) : all(room), gate(add()) {}
    std::unique_ptr<OutputGate> add() {
        auto port = std::make_unique<FakePort>();
        wire = port.get();
        return all.gate(std::move(port));
    }
    void send(std::uint64_t n, std::size_t bytes = 64) {
        std::vector<std::uint8_t> frame(bytes, static_cast<std::uint8_t>(n));
        std::memcpy(frame.data(), &n, sizeof(n));
        gate->send(frame);
    }
    std::vector<std::uint64_t> sent() const {
        std::vector<std::uint64_t> v;
        for (const auto& f : wire->sent) {
            v.emplace_back();
            std::memcpy(&v.back(), f.data(), sizeof(v.back()));
            EXPECT_TRUE(std::all_of(f.begin() + 8, f.end(),
                                    [&](auto b) { return b == static_cast<std::uint8_t>(v.back()); }));
        }
        return v;
    }
    FakePort* wire = nullptr;
    OutputGates all;
    std::unique_ptr<OutputGate> gate;
};
using Numbers = std::vector<std::uint64_t>;

TEST(OutputGate, PassesEverythingUntilItHolds) {
    Gate g;
    g.send(1);
    EXPECT_EQ(g.sent(), Numbers{1});
    EXPECT_EQ(g.all.held().frames, 0u);
    g.all.release(9);
    g.all.seal(9);
    g.send(2);
    EXPECT_EQ(g.sent(), (Numbers{1, 2}));
}

TEST(OutputGate, AnEpochsFramesLeaveInOrderWithItsReleaseAndNoOthersDo) {
    Gate g;
    g.all.hold(1);
    g.send(10);
    g.send(11);
    g.all.seal(2);
    g.send(20);
    EXPECT_EQ(g.sent(), Numbers{});
    EXPECT_EQ(g.all.held().frames, 3u);
    EXPECT_EQ(g.all.held().bytes, 3 * 64u);
    g.all.release(1);
    EXPECT_EQ(g.sent(), (Numbers{10, 11}));
    g.send(21);
    g.all.seal(3);
    g.send(30);
    g.all.release(1);
    EXPECT_EQ(g.sent(), (Numbers{10, 11}));
    g.all.release(2);
    EXPECT_EQ(g.sent(), (Numbers{10, 11, 20, 21}));
    EXPECT_EQ(g.all.held().frames, 1u);
}

TEST(OutputGate, ALaterReleaseTakesEarlierEpochsAlong) {
    Gate g;
    g.all.hold(1);
    for (std::uint64_t e = 1; e < 6; ++e) {
        g.send(e);
        g.all.seal(e + 1);
    }
    g.all.release(4);
    EXPECT_EQ(g.sent(), (Numbers{1, 2, 3, 4}));
}

TEST(OutputGate, TheLastEpochOfAGuestThatStandsStillLeavesWithoutASeal) {
    Gate g;
    g.all.hold(1);
    g.send(1);
    g.all.release(1);
    EXPECT_EQ(g.sent(), Numbers{1});
    g.send(2);
    EXPECT_EQ(g.sent(), Numbers{1}) << "still holding";
}

TEST(OutputGate, OpenLetsEverythingOutAndHoldsNothingAnyMore) {
    Gate g;
    g.all.hold(1);
    g.send(1);
    g.all.seal(2);
    g.send(2);
    g.all.open();
    g.send(3);
    EXPECT_EQ(g.sent(), (Numbers{1, 2, 3}));
    EXPECT_EQ(g.all.held().bytes, 0u);
    g.all.hold(1);
    g.send(4);
    EXPECT_EQ(g.sent().size(), 3u) << "and may hold again";
}

TEST(OutputGate, ShutDropsWhatIsHeldAndAllThatComesForGood) {
    Gate g;
    g.all.hold(1);
    g.send(1);
    g.all.shut();
    g.send(2);
    g.all.release(9);
    g.all.hold(2);
    g.all.open();
    g.send(3);
    EXPECT_EQ(g.sent(), Numbers{});
    EXPECT_EQ(g.all.held().frames, 0u);
    EXPECT_TRUE(g.gate->takes_output()) << "nobody is made to wait for nothing";
}

TEST(OutputGate, SaysNoBeforeItIsFullAndAskedForRoomOnce) {
    Gate g(OutputGate::kLeastRoom);
    unsigned told = 0;
    g.gate->on_room([&] { ++told; });
    g.all.hold(1);
    std::uint64_t n = 0;
    while (g.gate->takes_output()) g.send(n++, 9'000);
    EXPECT_FALSE(g.gate->takes_output());
    EXPECT_EQ(g.all.held().frames, n);
    EXPECT_LE(g.all.held().bytes, OutputGate::kLeastRoom);
    EXPECT_EQ(g.all.held().stalls, 1u);
    g.all.seal(2);
    g.all.release(1);
    EXPECT_EQ(told, 1u);
    EXPECT_EQ(g.sent().size(), n);
    EXPECT_TRUE(g.gate->takes_output());
    g.all.seal(3);
    g.all.release(2);
    EXPECT_EQ(told, 1u) << "nobody waits";
    for (; g.gate->takes_output(); ++n) g.send(n, 9'000);
    g.all.open();
    EXPECT_EQ(told, 2u);
    EXPECT_EQ(g.all.held().stalls, 2u);
    for (std::uint64_t i = 0; i < n; ++i) EXPECT_EQ(g.sent()[i], i);
}

TEST(OutputGate, ThereIsRoomForTheLargestFrameWheneverItSaysSo) {
    Gate g(OutputGate::kLeastRoom);
    std::mt19937 random(11);
    g.all.hold(1);
    std::uint64_t epoch = 1, offered = 0, released = 0;
    for (int n = 0; n < 5'000; ++n) {
        if (random() % 4 == 0) g.all.seal(++epoch);
        if (random() % 8 == 0 && released < epoch) g.all.release(++released);
        const auto before = g.wire->sent.size() + g.all.held().frames;
        if (!g.gate->takes_output()) continue;
        const bool large = random() % 3 == 0;
        g.send(offered++, large ? OutputGate::kLargestFrame : 60 + random() % 5'000);
        ASSERT_EQ(g.wire->sent.size() + g.all.held().frames, before + 1);
        ASSERT_LE(g.all.held().bytes, OutputGate::kLeastRoom);
    }
    g.all.open();
    ASSERT_EQ(g.wire->sent.size(), offered);
    for (std::uint64_t i = 0; i < offered; ++i) {
        std::uint64_t number = 0;
        std::memcpy(&number, g.wire->sent[i].data(), sizeof(number));
        ASSERT_EQ(number, i);
    }
    EXPECT_GT(g.all.held().stalls, 0u);
}

TEST(OutputGate, AGuestsRoomIsSharedByItsGates) {
    Gate g(8 * OutputGate::kLeastRoom);
    const auto second = g.add();
    g.all.hold(1);
    const std::vector<std::uint8_t> frame(OutputGate::kLargestFrame);
    for (OutputGate* one : {g.gate.get(), second.get()})
        while (one->takes_output()) one->send(frame);
    EXPECT_LE(g.all.held().bytes, 8 * OutputGate::kLeastRoom);
    EXPECT_GT(g.all.held().bytes, 6 * OutputGate::kLeastRoom);
}

// A guest that sends more than a gate holds: its queue isn't served, it gets no buffer back, and goes on after the release.
class GuestBehindAGate : public ::testing::Test {
  protected:
    static std::unique_ptr<NetBackend> make(OutputGates& all, FakePort*& wire, OutputGate*& gate,
                                            NetBackend*& net) {
        auto port = std::make_unique<FakePort>();
        wire = port.get();
        auto g = all.gate(std::move(port));
        gate = g.get();
        auto n = std::make_unique<NetBackend>(std::move(g), MacAddress{2, 0, 0, 0, 0, 1});
        net = n.get();
        gate->on_room([b = net] { b->output(); });
        return n;
    }
    GuestBehindAGate() : rig(make(all, wire, gate, net)) { rig.start(2); }
    void offer(std::uint16_t n) {
        for (std::uint16_t i = 0; i < n; ++i, ++next) {
            rig.poke(kData + 12 + next % 16 * 0x1'0000ull, next);
            rig.descriptor(1, next % 16, kData + next % 16 * 0x1'0000ull, 60'000, 0);
            rig.offer(1, next % 16);
        }
        rig.reg(0x50, 1);
    }
    void expect_in_order(std::size_t n) {
        ASSERT_EQ(wire->sent.size(), n);
        for (std::size_t i = 0; i < n; ++i) {
            std::uint16_t number = 0;
            std::memcpy(&number, wire->sent[i].data() + 12, 2);
            EXPECT_EQ(number, i);
        }
    }
    OutputGates all{OutputGate::kLeastRoom};
    FakePort* wire = nullptr;
    OutputGate* gate = nullptr;
    NetBackend* net = nullptr;
    Rig rig;
    std::uint16_t next = 0;
};

TEST_F(GuestBehindAGate, WaitsInItsQueueWhileTheGateIsFullAndGoesOnByItself) {
    all.hold(1);
    offer(8);
    const std::uint16_t taken = rig.used(1);
    EXPECT_GT(taken, 2u);
    EXPECT_LT(taken, 8u);
    EXPECT_EQ(all.held().stalls, 1u);
    rig.reg(0x50, 1);
    EXPECT_EQ(rig.used(1), taken) << "asking again changes nothing";
    EXPECT_TRUE(wire->sent.empty());
    all.seal(2);
    rig.raised = 0;
    all.release(1);
    EXPECT_EQ(wire->sent.size(), taken);
    EXPECT_GT(rig.used(1), taken);
    EXPECT_EQ(rig.raised, 1u) << "the guest is told";
    all.open();
    EXPECT_EQ(rig.used(1), 8u);
    expect_in_order(8);
    EXPECT_FALSE(rig.needs_reset());
}

TEST_F(GuestBehindAGate, ThatIsPausedSendsNothingUntilItGoesOn) {
    all.hold(1);
    offer(8);
    const std::uint16_t taken = rig.used(1);
    rig.device.quiesce();
    all.open();
    EXPECT_EQ(rig.used(1), taken);
    rig.device.resume();
    EXPECT_EQ(rig.used(1), 8u);
    expect_in_order(8);
}

TEST_F(GuestBehindAGate, ThatResetsItsDeviceIsNotServedBeforeItsDriverIsBack) {
    all.hold(1);
    offer(8);
    rig.reg(0x70, 0);
    rig.reg(0x30, 1);
    rig.reg(0x38, 16);
    rig.reg(0x80, static_cast<std::uint32_t>(kDesc + 0x4000));
    rig.reg(0x90, static_cast<std::uint32_t>(kAvail + 0x4000));
    rig.reg(0xa0, static_cast<std::uint32_t>(kUsed + 0x4000));
    rig.poke<std::uint16_t>(kUsed + 0x4000 + 2, 0);
    rig.reg(0x44, 1);  // ready, but no DRIVER_OK
    all.open();
    EXPECT_EQ(rig.used(1), 0u);
}

TEST_F(GuestBehindAGate, ThatMovesIsAnnouncedThroughAnOpenGateAtOnce) {
    OutputGates there;
    FakePort* port = nullptr;
    OutputGate* its_gate = nullptr;
    NetBackend* its_net = nullptr;
    Rig b(make(there, port, its_gate, its_net));
    ASSERT_TRUE(b.device.load(rig.device.save()));
    b.device.resume();
    ASSERT_EQ(port->sent.size(), 1u);
    EXPECT_EQ(port->sent[0][12 + 13], 0x35) << "RARP";
}

}  // namespace
}  // namespace proa::vmm
