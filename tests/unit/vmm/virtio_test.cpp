// Virtqueues and devices against a driver that is good, and one that is not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>

#include "vmm/devices/uart.hpp"
#include "vmm/virtio/block.hpp"
#include "vmm/virtio/console.hpp"
#include "vmm/virtio/net.hpp"

namespace proa::vmm {
namespace {

constexpr std::uint64_t kDesc = abi::kRamBase + 0x1000, kAvail = abi::kRamBase + 0x2000,
                        kUsed = abi::kRamBase + 0x3000, kData = abi::kRamBase + 0x1'0000;

// A guest's RAM and one device, driven through its registers as a driver would.
struct Rig {
    explicit Rig(std::unique_ptr<VirtioBackend> b)
        : bytes(2u << 20),
          memory(bytes),
          device(0, memory, std::move(b), [this](std::uint32_t bits) { raised |= bits; }) {}
    void reg(std::uint64_t at, std::uint32_t v) { device.write(at, 4, v); }
    void start(unsigned queues, std::uint32_t features = 0) {
        reg(0x70, 1 | 2);
        reg(0x24, 0);
        reg(0x20, features);
        reg(0x24, 1);
        reg(0x20, 1);  // VERSION_1
        reg(0x70, 1 | 2 | 8);
        for (unsigned q = 0; q < queues; ++q) {
            reg(0x30, q);
            reg(0x38, 16);
            reg(0x80, static_cast<std::uint32_t>(kDesc + q * 0x4000));
            reg(0x90, static_cast<std::uint32_t>(kAvail + q * 0x4000));
            reg(0xa0, static_cast<std::uint32_t>(kUsed + q * 0x4000));
            reg(0x44, 1);
        }
        reg(0x70, 1 | 2 | 8 | 4);
    }
    template <class T>
    void poke(std::uint64_t gpa, T v) {
        std::memcpy(memory.slice(gpa, sizeof(T))->data(), &v, sizeof(T));
    }
    template <class T>
    T peek(std::uint64_t gpa) {
        T v;
        std::memcpy(&v, memory.slice(gpa, sizeof(T))->data(), sizeof(T));
        return v;
    }
    void descriptor(unsigned q, unsigned i, std::uint64_t addr, std::uint32_t len, std::uint16_t flags,
                    std::uint16_t next = 0) {
        const std::uint64_t at = kDesc + q * 0x4000 + i * 16;
        poke(at, addr);
        poke(at + 8, len);
        poke(at + 12, flags);
        poke(at + 14, next);
    }
    void offer(unsigned q, std::uint16_t head) {
        const std::uint64_t at = kAvail + q * 0x4000;
        const auto idx = peek<std::uint16_t>(at + 2);
        poke(at + 4 + idx % 16 * 2, head);
        poke<std::uint16_t>(at + 2, static_cast<std::uint16_t>(idx + 1));
    }
    std::uint16_t used(unsigned q) { return peek<std::uint16_t>(kUsed + q * 0x4000 + 2); }
    bool needs_reset() { return (device.read(0x70, 4) & 64) != 0; }

    std::vector<std::uint8_t> bytes;
    GuestMemory memory;
    std::uint32_t raised = 0;
    VirtioMmio device;
};

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

struct Loop {  // runs what the worker posts
    std::mutex mutex;
    std::condition_variable more;
    std::deque<std::function<void()>> tasks;
    Post post() {
        return [this](std::function<void()> f) {
            std::lock_guard lock(mutex);
            tasks.push_back(std::move(f));
            more.notify_one();
        };
    }
    void run_one() {
        std::unique_lock lock(mutex);
        more.wait(lock, [&] { return !tasks.empty(); });
        auto f = std::move(tasks.front());
        tasks.pop_front();
        lock.unlock();
        f();
    }
};

class BlockTest : public ::testing::Test {
  protected:
    void SetUp() override {
        path = ::testing::TempDir() + "proa-block-" + std::to_string(::getpid());
        std::ofstream f(path, std::ios::binary);
        for (int i = 0; i < 64; ++i) f << std::string(512, static_cast<char>('a' + i % 26));
    }
    void TearDown() override { ::unlink(path.c_str()); }
    std::unique_ptr<Rig> open(bool read_only) {
        auto b = BlockBackend::open(path, read_only, loop.post());
        EXPECT_TRUE(b) << b.error().what;
        auto r = std::make_unique<Rig>(std::move(*b));
        r->start(1);
        return r;
    }
    std::uint8_t request(Rig& r, std::uint32_t type, std::uint64_t sector, std::uint32_t bytes) {
        r.poke(kData, type);
        r.poke(kData + 8, sector);
        r.descriptor(0, 0, kData, 16, 1, 1);
        r.descriptor(0, 1, kData + 4096, bytes, static_cast<std::uint16_t>(1 | (type == 0 ? 2 : 0)), 2);
        r.descriptor(0, 2, kData + 512, 1, 2);
        r.poke<std::uint8_t>(kData + 512, 0xff);
        r.offer(0, 0);
        r.reg(0x50, 0);
        loop.run_one();
        return r.peek<std::uint8_t>(kData + 512);
    }
    std::string path;
    Loop loop;
};

TEST_F(BlockTest, ReadsWritesAndRefusesWhatIsOutside) {
    auto r = open(false);
    EXPECT_EQ(request(*r, 0, 2, 512), 0u);
    EXPECT_EQ(r->peek<char>(kData + 4096), 'c');
    r->poke<char>(kData + 4096, 'Z');
    EXPECT_EQ(request(*r, 1, 5, 512), 0u);
    EXPECT_EQ(request(*r, 0, 64, 512), 1u) << "past the end";
    EXPECT_EQ(request(*r, 0, ~0ull, 512), 1u);
    EXPECT_EQ(request(*r, 0, 0, 100), 1u) << "not whole sectors";
    EXPECT_EQ(request(*r, 77, 0, 512), 2u) << "unknown";
    r.reset();
    std::ifstream f(path, std::ios::binary);
    f.seekg(5 * 512);
    EXPECT_EQ(f.get(), 'Z');
}

TEST_F(BlockTest, AReadOnlyDiskRefusesWrites) {
    auto r = open(true);
    EXPECT_EQ(request(*r, 1, 0, 512), 1u);
    for (const std::uint32_t clears : {11u, 13u}) EXPECT_EQ(request(*r, clears, 0, 16), 1u) << clears;
    EXPECT_EQ(request(*r, 0, 0, 512), 0u);
    EXPECT_EQ(r->peek<char>(kData + 4096), 'a');
    EXPECT_EQ(r->device.read(0x10, 4) & (1u << 13 | 1u << 14 | 1u << 5), 1u << 5)
        << "offered: read-only, no clearing";
}

TEST_F(BlockTest, DiscardAndWriteZeroesClearWhatTheyNameAndNothingElse) {
    auto r = open(false);
    const auto clear = [&](std::uint32_t type, std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags,
                           std::uint32_t bytes = 16) {
        r->poke(kData + 4096, sector);
        r->poke(kData + 4104, sectors);
        r->poke(kData + 4108, flags);
        return request(*r, type, 0, bytes);
    };
    const auto at = [&](std::uint64_t sector) {
        EXPECT_EQ(request(*r, 0, sector, 512), 0u);
        return r->peek<char>(kData + 4096);
    };
    constexpr std::uint32_t kDiscard = 11, kZeroes = 13, kUnmap = 1;
    EXPECT_EQ(r->device.read(0x100 + 36, 4), 1u << 22) << "max_discard_sectors";
    EXPECT_EQ(r->device.read(0x100 + 56, 1), 1u) << "write_zeroes_may_unmap";
    EXPECT_EQ(clear(kZeroes, 2, 2, 0), 0u);
    EXPECT_EQ(clear(kZeroes, 5, 1, kUnmap), 0u);
    EXPECT_EQ(at(1), 'b');
    EXPECT_EQ(at(2), 0);
    EXPECT_EQ(at(3), 0);
    EXPECT_EQ(at(4), 'e');
    EXPECT_EQ(at(5), 0);
    EXPECT_EQ(clear(kDiscard, 8, 8, 0), 0u);
    EXPECT_EQ(at(7), 'h');
    EXPECT_EQ(at(16), 'q');
    EXPECT_EQ(clear(kDiscard, 60, 5, 0), 1u) << "past the end";
    EXPECT_EQ(clear(kZeroes, ~0ull, 2, 0), 1u) << "wraps";
    EXPECT_EQ(clear(kDiscard, 0, 1, kUnmap), 2u) << "unmap is reserved for discard";
    EXPECT_EQ(clear(kZeroes, 0, 1, 6), 2u) << "unknown flags";
    EXPECT_EQ(clear(kZeroes, 0, 1, 0, 8), 2u) << "half a range";
    EXPECT_EQ(at(0), 'a');
}

TEST_F(BlockTest, FlushIsAcknowledgedAndKeptOnAReadOnlyDisk) {
    for (const bool read_only : {false, true}) {
        auto r = open(read_only);
        EXPECT_EQ(request(*r, 4, 0, 0), 0u);
    }
}

TEST_F(BlockTest, QuiesceLeavesNothingInFlight) {
    auto r = open(false);
    r->poke<std::uint32_t>(kData, 0);
    r->poke<std::uint64_t>(kData + 8, 1);
    r->descriptor(0, 0, kData, 16, 1, 1);
    r->descriptor(0, 1, kData + 4096, 512, 3, 2);
    r->descriptor(0, 2, kData + 512, 1, 2);
    r->offer(0, 0);
    r->reg(0x50, 0);
    r->device.quiesce();
    EXPECT_EQ(r->used(0), 1u);
    EXPECT_EQ(r->peek<char>(kData + 4096), 'b');
    r->device.resume();
    loop.run_one();
}

// The worker sleeps when the broken chain comes: whoever waits for the good one before it must not wait for ever.
TEST_F(BlockTest, ABrokenChainAfterAGoodOneStillLeavesTheDeviceResettable) {
    auto r = open(false);
    r->poke<std::uint32_t>(kData, 0);
    r->poke<std::uint64_t>(kData + 8, 1);
    r->descriptor(0, 0, kData, 16, 1, 1);
    r->descriptor(0, 1, kData + 4096, 512, 3, 2);
    r->descriptor(0, 2, kData + 512, 1, 2);
    r->descriptor(0, 3, kData, 16, 1, 999);
    r->offer(0, 0);
    r->offer(0, 3);
    r->reg(0x50, 0);
    EXPECT_TRUE(r->needs_reset());
    r->reg(0x70, 0);
    EXPECT_FALSE(r->needs_reset());
}

// Its status byte goes to the last buffer: one of no length at the start of RAM would put it in front of guest memory.
TEST_F(BlockTest, AnEmptyBufferAtTheEndGetsNoStatusByte) {
    auto r = open(false);
    r->poke<std::uint32_t>(kData, 0);
    r->poke<std::uint64_t>(kData + 8, 1);
    r->descriptor(0, 0, kData, 16, 1, 1);
    r->descriptor(0, 1, kData + 4096, 513, 3, 2);
    r->descriptor(0, 2, abi::kRamBase, 0, 2);
    r->offer(0, 0);
    r->reg(0x50, 0);
    r->device.quiesce();
    EXPECT_EQ(r->peek<std::uint8_t>(kData + 4096 + 512), 0) << "the status, behind the sector's data";
}

TEST_F(BlockTest, MoreRequestsInFlightThanTheQueueHoldsBreakTheDevice) {
    auto r = open(false);
    r->poke<std::uint32_t>(kData, 0);
    r->poke<std::uint64_t>(kData + 8, 1);
    r->descriptor(0, 0, kData, 16, 1, 1);
    r->descriptor(0, 1, kData + 4096, 512, 3, 2);
    r->descriptor(0, 2, kData + 512, 1, 2);
    for (unsigned n = 0; n < 2u * SplitQueue::kMaxSize / 16 && !r->needs_reset();
         ++n) {  // nothing is ever used
        for (unsigned i = 0; i < 16; ++i) r->offer(0, 0);
        r->reg(0x50, 0);
    }
    EXPECT_TRUE(r->needs_reset());
}

struct FakePort final : NetPort {
    std::vector<std::vector<std::uint8_t>> sent;
    std::deque<std::vector<std::uint8_t>> waiting;
    bool wanted = true;
    void send(std::span<const std::uint8_t> f) override { sent.emplace_back(f.begin(), f.end()); }
    std::size_t receive(std::span<std::uint8_t> to) override {
        if (waiting.empty()) return 0;
        const auto f = waiting.front();
        waiting.pop_front();
        std::copy(f.begin(), f.end(), to.begin());
        return f.size();
    }
    void want_input(bool on) override { wanted = on; }
    std::uint64_t offloads() const override { return 0; }
    void set_offloads(std::uint64_t) override {}
};

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

TEST(VirtioNet, WhatCameWhileItStoodStillCanBeTakenAwayAndIsSeenFirstElsewhere) {
    auto port = std::make_unique<FakePort>();
    FakePort& there = *port;
    Rig a(std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1}));
    a.start(2);
    there.waiting = {frame_of(1), frame_of(2), frame_of(3)};
    EXPECT_TRUE(a.device.take_input(10).empty()) << "while it runs, its input is its own";
    static_cast<NetBackend&>(a.device.backend()).input();  // the first is read, and finds no buffer
    a.device.quiesce();
    const auto taken = a.device.take_input(2);
    ASSERT_EQ(taken.size(), 2u);
    EXPECT_EQ(taken[0], frame_of(1));
    EXPECT_EQ(taken[1], frame_of(2));
    EXPECT_EQ(there.waiting.size(), 1u) << "no more than asked for";

    port = std::make_unique<FakePort>();
    FakePort& here = *port;
    Rig b(std::make_unique<NetBackend>(std::move(port), MacAddress{2, 0, 0, 0, 0, 1}));
    b.start(2);
    here.waiting = {frame_of(9)};
    b.device.quiesce();
    for (const auto& f : taken) b.device.give_input(f);
    for (unsigned i = 0; i < 3; ++i) {
        b.descriptor(0, i, kData + 256 * i, 256, 2);
        b.offer(0, i);
    }
    EXPECT_EQ(b.used(0), 0u) << "it is quiet";
    b.device.resume();
    ASSERT_EQ(b.used(0), 3u);
    for (unsigned i = 0; i < 3; ++i)
        EXPECT_EQ(b.peek<std::uint8_t>(kData + 256 * i + 20), (std::array<std::uint8_t, 3>{1, 2, 9})[i]);
}

TEST(VirtioNet, InputFromElsewhereIsBoundedAndReachesARunningGuestAtOnce) {
    Rig r(std::make_unique<NetBackend>(std::make_unique<FakePort>(), MacAddress{2, 0, 0, 0, 0, 1}));
    r.start(2);
    for (unsigned i = 0; i < 4; ++i) {
        r.descriptor(0, i, kData + 256 * i, 256, 2);
        r.offer(0, i);
    }
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
