// Virtqueues and devices against a driver that is good, and one that is not.
#include <random>

#include "tests/unit/vmm/virtio_rig.hpp"
#include "vmm/devices/uart.hpp"
#include "vmm/virtio/console.hpp"

namespace proa::vmm {
namespace {

TEST(VirtioMmio, FeaturesOkFallsWithoutVersion1) {
    Rig r(std::make_unique<RngBackend>());
    r.reg(0x70, 1 | 2 | 8);
    EXPECT_EQ(r.device.read(0x70, 4) & 8, 0u);
    EXPECT_EQ(r.device.read(0x0, 4), 0x7472'6976u);
    EXPECT_EQ(r.device.read(0x4, 4), 2u);
}

TEST(VirtioRng, FillsABufferMarksItDirtyAndInterrupts) {
    Rig r(std::make_unique<RngBackend>());
    r.start(1);
    r.descriptor(0, 0, kData, 64, 2);
    r.offer(0, 0);
    r.reg(0x50, 0);
    EXPECT_EQ(r.used(0), 1u);
    EXPECT_EQ(r.raised, 1u);
    EXPECT_NE(r.peek<std::uint64_t>(kData), 0u);
    dirtylog::Bitmap dirty(r.memory.pages());
    r.memory.take_device_writes(dirty);
    EXPECT_TRUE(dirty.test((kData - abi::kRamBase) / 4096));
    EXPECT_TRUE(dirty.test((kUsed - abi::kRamBase) / 4096));
}

TEST(VirtioQueue, BrokenChainsPutTheDeviceIntoNeedsReset) {
    const auto broken = [](auto&& set_up) {
        Rig r(std::make_unique<RngBackend>());
        r.start(1);
        set_up(r);
        r.offer(0, 0);
        r.reg(0x50, 0);
        return r.needs_reset();
    };
    EXPECT_TRUE(broken([](Rig& r) { r.descriptor(0, 0, kData, 64, 2 | 1, 0); })) << "a loop";
    EXPECT_TRUE(broken([](Rig& r) { r.descriptor(0, 0, kData, 64, 2 | 1, 999); }))
        << "next outside of the table";
    EXPECT_TRUE(broken([](Rig& r) { r.descriptor(0, 0, 0x1000, 64, 2); })) << "not RAM";
    EXPECT_TRUE(broken([](Rig& r) { r.descriptor(0, 0, ~0ull - 8, 64, 2); })) << "wraps around";
    EXPECT_TRUE(broken([](Rig& r) { r.descriptor(0, 0, kData, 24, 4); })) << "indirect of a broken length";
    EXPECT_TRUE(broken([](Rig& r) {
        r.descriptor(0, 0, kData, 64, 2 | 1, 1);
        r.descriptor(0, 1, kData, 64, 0);
    })) << "readable after writable";
    EXPECT_TRUE(broken([](Rig& r) { r.poke<std::uint16_t>(kAvail + 2, 99); })) << "more waiting than fits";
}

TEST(VirtioQueue, RandomRingsNeverLeaveGuestMemory) {
    std::mt19937 random(5);
    for (int n = 0; n < 3'000; ++n) {
        Rig r(std::make_unique<RngBackend>());
        r.start(1);
        for (unsigned i = 0; i < 16; ++i)
            r.descriptor(0, i, abi::kRamBase + random() % (3u << 20), random() % 8192,
                         static_cast<std::uint16_t>(random() % 8), static_cast<std::uint16_t>(random() % 18));
        for (int k = 0; k < 8; ++k) r.offer(0, static_cast<std::uint16_t>(random() % 20));
        r.reg(0x50, 0);
    }
}

TEST(VirtioMmio, StateGoesOnElsewhereAndBadStateChangesNothing) {
    Rig a(std::make_unique<RngBackend>());
    a.start(1);
    a.descriptor(0, 0, kData, 64, 2);
    a.offer(0, 0);
    a.reg(0x50, 0);
    auto state = a.device.save();

    Rig b(std::make_unique<RngBackend>());
    b.bytes = a.bytes;
    std::copy(a.bytes.begin(), a.bytes.end(), b.memory.bytes().begin());
    for (std::size_t cut = 0; cut < state.size(); ++cut)
        EXPECT_FALSE(b.device.load(std::span(state).first(cut)));
    ASSERT_TRUE(b.device.load(state));
    b.descriptor(0, 1, kData + 4096, 64, 2);
    b.offer(0, 1);
    b.device.resume();
    EXPECT_EQ(b.used(0), 2u);
    EXPECT_NE(b.peek<std::uint64_t>(kData + 4096), 0u);

    std::mt19937 random(9);
    for (int n = 0; n < 5'000; ++n) {
        auto bad = state;
        bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
        Rig c(std::make_unique<RngBackend>());
        if (c.device.load(bad)) c.device.resume();
    }
}

TEST(VirtioNet, SendsReceivesAndHoldsBackWithoutBuffers) {
    auto port = std::make_unique<FakePort>();
    FakePort& wire = *port;
    auto net = std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1});
    NetBackend& backend = *net;
    Rig r(std::move(net));
    r.start(2);
    std::vector<std::uint8_t> frame(12 + 60, 0x5a);
    wire.waiting.push_back(frame);
    backend.input();
    EXPECT_FALSE(wire.wanted) << "no buffers: stop polling";
    r.descriptor(0, 0, kData, 2048, 2);
    r.offer(0, 0);
    r.reg(0x50, 0);
    EXPECT_TRUE(wire.wanted || wire.waiting.empty());
    EXPECT_EQ(r.used(0), 1u);
    EXPECT_EQ(r.peek<std::uint8_t>(kData + 20), 0x5a);

    r.descriptor(1, 0, kData, 72, 0);
    r.offer(1, 0);
    r.reg(0x50, 1);
    ASSERT_EQ(wire.sent.size(), 1u);
    EXPECT_EQ(wire.sent[0].size(), 72u);
}

TEST(VirtioNet, ArrivingAnnouncesTheAddress) {
    Rig a(std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1}));
    a.start(2);
    const auto state = a.device.save();
    auto port = std::make_unique<FakePort>();
    FakePort& wire = *port;
    Rig b(std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1}));
    ASSERT_TRUE(b.device.load(state));
    b.device.resume();
    ASSERT_EQ(wire.sent.size(), 1u);
    EXPECT_EQ(wire.sent[0][12 + 12], 0x80);
    EXPECT_EQ(wire.sent[0][12 + 13], 0x35) << "RARP";
    EXPECT_EQ(wire.sent[0][12 + 6], 2) << "from the guest's address";
}

// A frame as the tap hands it over, told apart by one byte.
std::vector<std::uint8_t> frame_of(std::uint8_t mark, std::size_t size = 72) {
    std::vector<std::uint8_t> f(size);
    std::fill(f.begin() + 12, f.end(), mark);
    return f;
}

// To receive into: 256 bytes each, from kData on.
void give_buffers(Rig& r, std::uint16_t n) {
    for (std::uint16_t i = 0; i < n; ++i) {
        r.descriptor(0, i, kData + 256u * i, 256, 2);
        r.offer(0, i);
    }
}

TEST(VirtioNet, WhatCameWhileItStoodStillCanBeTakenAwayAndIsSeenFirstElsewhere) {
    auto port = std::make_unique<FakePort>();
    FakePort& there = *port;
    Rig a(std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1}));
    a.start(2);
    auto echo = frame_of(0);
    std::ranges::copy(MacAddress{2, 0, 0, 0, 0, 1}, echo.begin() + 12 + 6);
    there.waiting = {frame_of(1), echo, frame_of(2), frame_of(3)};
    EXPECT_TRUE(a.device.take_input(10).empty()) << "while it runs, its input is its own";
    static_cast<NetBackend&>(a.device.backend()).input();  // the first is read, and finds no buffer
    a.device.quiesce();
    const auto taken = a.device.take_input(2);
    ASSERT_EQ(taken.size(), 2u);
    EXPECT_EQ(taken[0], frame_of(1));
    EXPECT_EQ(taken[1], frame_of(2)) << "what it has sent itself isn't input";
    EXPECT_EQ(there.waiting.size(), 1u) << "no more than asked for";

    port = std::make_unique<FakePort>();
    FakePort& here = *port;
    Rig b(std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1}));
    b.start(2);
    here.waiting = {frame_of(9)};
    b.device.quiesce();
    for (const auto& f : taken) b.device.give_input(f);
    give_buffers(b, 3);
    EXPECT_EQ(b.used(0), 0u) << "it is quiet";
    b.device.resume();
    ASSERT_EQ(b.used(0), 3u);
    for (unsigned i = 0; i < 3; ++i)
        EXPECT_EQ(b.peek<std::uint8_t>(kData + 256 * i + 20), (std::array<std::uint8_t, 3>{1, 2, 9})[i]);
}

TEST(VirtioNet, BeforeItRunsItFindsWhatWaitsAndNobodyHearsOfIt) {
    Rig a(std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1}));
    a.start(2);
    give_buffers(a, 3);
    a.device.quiesce();
    auto port = std::make_unique<FakePort>();
    FakePort& wire = *port;
    Rig b(std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1}));
    std::copy(a.bytes.begin(), a.bytes.end(), b.memory.bytes().begin());
    ASSERT_TRUE(b.device.load(a.device.save()));
    b.device.quiesce();
    wire.waiting = {frame_of(2)};
    b.device.give_input(frame_of(1));
    b.device.arrive();
    ASSERT_EQ(b.used(0), 2u);
    EXPECT_EQ(b.peek<std::uint8_t>(kData + 20), 1);
    EXPECT_EQ(b.peek<std::uint8_t>(kData + 256 + 20), 2);
    EXPECT_NE(b.raised & 1, 0u);
    EXPECT_TRUE(wire.sent.empty()) << "the start may still fail";

    wire.waiting = {frame_of(3)};
    static_cast<NetBackend&>(b.device.backend()).input();
    EXPECT_EQ(b.used(0), 2u) << "it is quiet again";
    b.device.resume();
    EXPECT_EQ(b.used(0), 3u);
    EXPECT_EQ(wire.sent.size(), 1u) << "now switches learn where it is";
}

TEST(VirtioNet, ArrivingInterruptsOnlyADriverThatMayHaveMissedOne) {
    for (const bool seen : {false, true}) {
        Rig a(std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1}));
        a.start(2, 1u << 29);  // EVENT_IDX
        give_buffers(a, 1);
        a.device.give_input(frame_of(1));
        ASSERT_EQ(a.used(0), 1u);
        if (seen) a.poke<std::uint16_t>(kAvail + 4 + 2 * 16, 1);  // used_event: the next one, please
        a.device.quiesce();
        Rig b(std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1}));
        std::copy(a.bytes.begin(), a.bytes.end(), b.memory.bytes().begin());
        ASSERT_TRUE(b.device.load(a.device.save()));
        b.device.quiesce();
        b.device.arrive();
        EXPECT_EQ(b.raised & 1, seen ? 0u : 1u);
    }
}

TEST(VirtioNet, InputFromElsewhereIsBoundedAndReachesARunningGuestAtOnce) {
    Rig r(std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1}));
    r.start(2);
    give_buffers(r, 4);
    r.device.give_input(frame_of(1));
    EXPECT_EQ(r.used(0), 1u);
    r.device.give_input(std::vector<std::uint8_t>(12));       // a header and nothing
    r.device.give_input(std::vector<std::uint8_t>(100'000));  // longer than any frame
    EXPECT_EQ(r.used(0), 1u);
    r.device.quiesce();
    for (int i = 0; i < 1'000; ++i) r.device.give_input(frame_of(2));
    EXPECT_EQ(r.device.take_input(10'000).size(), 256u) << "the rest is dropped, as by a full queue";
}

TEST(VirtioNet, TheGuestIsAskedToAnnounceItselfAfterItHasAnswered) {
    constexpr std::uint32_t kAnnounceFeatures = 1u << 16 | 1u << 17 | 1u << 21;
    std::vector<std::function<void()>> later;
    const auto backend = [&later](FakePort** port) {
        auto p = std::make_unique<FakePort>();
        *port = p.get();
        return std::make_unique<NetBackend>(std::move(p), MacAddress{2, 0, 0, 0, 0, 1},
                                            [&later](std::chrono::milliseconds delay, std::function<void()> f) {
                                                EXPECT_GT(delay.count(), 0);
                                                later.push_back(std::move(f));
                                            });
    };
    FakePort *there = nullptr, *here = nullptr;
    Rig a(backend(&there));
    a.start(3, kAnnounceFeatures);
    Rig b(backend(&here));
    std::copy(a.bytes.begin(), a.bytes.end(), b.memory.bytes().begin());
    ASSERT_TRUE(b.device.load(a.device.save()));
    b.device.resume();
    EXPECT_EQ(here->sent.size(), 1u) << "RARP goes at once";
    EXPECT_EQ(b.raised & 2, 0u) << "the guest is left alone";
    ASSERT_EQ(later.size(), 1u);

    b.device.quiesce();  // it moves on, and back: the time comes meanwhile
    later[0]();
    EXPECT_EQ(b.raised & 2, 0u);
    b.device.resume();
    EXPECT_NE(b.raised & 2, 0u) << "then at once";
    EXPECT_EQ(b.device.read(0x106, 2), 3u);

    b.raised = 0;
    later[0]();
    EXPECT_EQ(b.raised & 2, 0u) << "once";
}

TEST(VirtioNet, ADriverThatCanIsAskedToAnnounceItself) {
    constexpr std::uint32_t kAnnounceFeatures =
        1u << 16 | 1u << 17 | 1u << 21;  // STATUS, CTRL_VQ, GUEST_ANNOUNCE
    const auto backend = [] {
        return std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1});
    };
    Rig a(backend());
    a.start(3, kAnnounceFeatures);
    EXPECT_EQ(a.device.read(0x106, 2), 1u) << "link up, nothing to announce where it booted";
    Rig b(backend());
    std::copy(a.bytes.begin(), a.bytes.end(), b.memory.bytes().begin());
    ASSERT_TRUE(b.device.load(a.device.save()));
    b.device.resume();
    EXPECT_EQ(b.device.read(0x106, 2), 3u);
    EXPECT_NE(b.raised & 2, 0u) << "a configuration change";

    const auto command = [&](std::uint8_t klass, std::uint8_t what) {
        b.poke(kData, klass);
        b.poke(kData + 1, what);
        b.poke<std::uint8_t>(kData + 64, 0xff);
        b.descriptor(2, 0, kData, 2, 1, 1);
        b.descriptor(2, 1, kData + 64, 1, 2);
        b.offer(2, 0);
        b.reg(0x50, 2);
        return b.peek<std::uint8_t>(kData + 64);
    };
    EXPECT_EQ(command(1, 0), 1u) << "a MAC filter was never offered";
    EXPECT_EQ(b.device.read(0x106, 2), 3u);
    EXPECT_EQ(command(3, 0), 0u);
    EXPECT_EQ(b.device.read(0x106, 2), 1u) << "acknowledged";
    b.descriptor(2, 0, kData, 2, 0);
    b.offer(2, 0);
    b.reg(0x50, 2);
    EXPECT_TRUE(b.needs_reset()) << "no room for the answer";
}

TEST(VirtioConsole, TellsTheTerminalsSize) {
    auto c = std::make_unique<ConsoleBackend>([](auto) {});
    ConsoleBackend& console = *c;
    Rig r(std::move(c));
    console.resize(80, 24);
    EXPECT_EQ(r.raised & 2, 0u) << "no driver yet";
    r.start(2);
    console.resize(132, 50);
    EXPECT_EQ(r.device.read(0x100, 2), 132u);
    EXPECT_EQ(r.device.read(0x102, 2), 50u);
    EXPECT_NE(r.raised & 2, 0u);
    r.raised = 0;
    console.resize(132, 50);
    EXPECT_EQ(r.raised, 0u) << "nothing changed";
}

TEST(Pl011, InterruptsWhenThereIsInputAndCarriesItAcross) {
    bool line = false;
    std::string out;
    Pl011 a([&](std::span<const std::uint8_t> b) { out.append(b.begin(), b.end()); },
            [&](bool l) { line = l; });
    a.write(0x38, 4, 1 << 4);
    a.write(0x00, 4, 'x');
    EXPECT_EQ(out, "x");
    const std::uint8_t typed[] = {'h', 'i'};
    a.input(typed);
    EXPECT_TRUE(line);
    bool other = false;
    Pl011 b([](auto) {}, [&](bool l) { other = l; });
    ASSERT_TRUE(b.load(a.save()));
    b.resume();
    EXPECT_TRUE(other);
    EXPECT_EQ(b.read(0, 4), 'h');
    EXPECT_EQ(b.read(0, 4), 'i');
    EXPECT_FALSE(other);
    EXPECT_FALSE(b.load(std::vector<std::uint8_t>{1, 2, 3}));
}

}  // namespace
}  // namespace proa::vmm
