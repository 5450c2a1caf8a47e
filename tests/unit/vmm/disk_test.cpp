// A disk as replication sees it: what an observer is told of it, and what a pause leaves behind.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <future>
#include <random>

#include "tests/unit/vmm/virtio_rig.hpp"

namespace {
// The storage's flush, as slow as a test wants it: the linker prefers this one to the C library's.
std::atomic<void (*)()> during_flush = nullptr;
}  // namespace
extern "C" int fdatasync(int fd) {
    if (auto* f = during_flush.load()) f();
    return ::fsync(fd);
}

namespace proa::vmm {
namespace {

constexpr std::uint32_t kRead = 0, kWrite = 1, kFlushes = 4, kDiscards = 11, kZeroes = 13;
constexpr std::uint64_t kSectors = 64;

std::vector<std::uint8_t> contents(const std::string& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
}

// A copy of the disk, made of nothing but what an observer is told.
class Recorder final : public DiskObserver {
  public:
    explicit Recorder(std::vector<std::uint8_t> from) : image(std::move(from)) {}
    void wrote(std::uint64_t offset, std::span<const std::uint8_t> bytes) override {
        std::lock_guard lock(mutex);
        ASSERT_LE(offset + bytes.size(), image.size());
        ASSERT_EQ((offset | bytes.size()) % kSectorBytes, 0u);
        std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(offset));
        offsets.push_back(offset);
    }
    void zeroed(std::uint64_t offset, std::uint64_t length) override {
        std::lock_guard lock(mutex);
        ASSERT_LE(offset + length, image.size());
        std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(offset), length, std::uint8_t{0});
        offsets.push_back(offset);
    }
    bool has_room() const override { return room; }
    void on_room(std::function<void()> f) override { tell = std::move(f); }

    std::mutex mutex;
    std::vector<std::uint8_t> image;
    std::vector<std::uint64_t> offsets;
    std::atomic<bool> room = true;
    std::function<void()> tell;
};

class DiskTest : public ::testing::Test {
  protected:
    static constexpr unsigned kMost = 5;  // requests at a time: three descriptors each, of 16

    void SetUp() override {
        path = ::testing::TempDir() + "proa-disk-" + std::to_string(::getpid());
        std::ofstream f(path, std::ios::binary);
        for (std::uint64_t i = 0; i < kSectors; ++i)
            f << std::string(kSectorBytes, static_cast<char>('a' + i % 26));
        f.close();
        recorder = std::make_unique<Recorder>(contents(path));
    }
    void TearDown() override { ::unlink(path.c_str()); }

    struct Host {
        std::unique_ptr<Rig> rig;
        BlockBackend* disk = nullptr;
        Rig* operator->() const { return rig.get(); }
    };
    Host open() {
        auto b = BlockBackend::open(path, false, loop.post());
        EXPECT_TRUE(b) << b.error().what;
        BlockBackend* disk = b->get();
        Host h{std::make_unique<Rig>(std::move(*b)), disk};
        h->start(1);
        return h;
    }
    static std::uint64_t at(unsigned slot) { return kData + slot * 0x1'0000; }
    static void prepare(Host& h, unsigned slot, std::uint32_t type, std::uint64_t sector, std::uint32_t bytes) {
        const auto i = static_cast<std::uint16_t>(3 * slot);
        h->poke(at(slot), type);
        h->poke(at(slot) + 8, sector);
        h->poke<std::uint8_t>(at(slot) + 512, 0xff);
        h->descriptor(0, i, at(slot), 16, 1, static_cast<std::uint16_t>(i + 1));
        h->descriptor(0, i + 1, at(slot) + 4096, bytes, static_cast<std::uint16_t>(type == kRead ? 3 : 1),
                      static_cast<std::uint16_t>(i + 2));
        h->descriptor(0, i + 2, at(slot) + 512, 1, 2);
        h->offer(0, i);
    }
    static void write(Host& h, unsigned slot, std::uint64_t sector, char with, std::uint32_t sectors = 1) {
        std::memset(h->memory.slice(at(slot) + 4096, sectors * kSectorBytes)->data(), with,
                    sectors * kSectorBytes);
        prepare(h, slot, kWrite, sector, sectors * kSectorBytes);
    }
    static void clear(Host& h, unsigned slot, std::uint32_t type, std::uint64_t sector, std::uint32_t sectors) {
        h->poke(at(slot) + 4096, sector);
        h->poke(at(slot) + 4104, sectors);
        h->poke<std::uint32_t>(at(slot) + 4108, 0);
        prepare(h, slot, type, 0, 16);
    }
    static std::uint8_t status(Host& h, unsigned slot) { return h->peek<std::uint8_t>(at(slot) + 512); }
    static std::uint32_t used_head(Host& h, unsigned n) {
        return h->peek<std::uint32_t>(kUsed + 4 + std::uint64_t{n % 16} * 8);
    }
    void run_until_used(Host& h, std::uint16_t n) {
        loop.run_until([&] { return h->used(0) == n; });
    }
    char on_disk(std::uint64_t sector) const {
        return static_cast<char>(contents(path)[sector * kSectorBytes]);
    }

    std::string path;
    Loop loop;
    std::unique_ptr<Recorder> recorder;
};

TEST_F(DiskTest, AnObserverThatAppliesWhatItIsToldHasTheDisk) {
    auto h = open();
    h.disk->observe(recorder.get());
    std::mt19937 random(3);
    std::uint16_t done = 0;
    for (int n = 0; n < 300; ++n) {
        const auto requests = 1 + random() % kMost;
        for (unsigned slot = 0; slot < requests; ++slot) {
            const std::uint64_t sector = random() % (kSectors + 2);  // some are refused
            const auto sectors = static_cast<std::uint32_t>(1 + random() % 16);
            switch (random() % 5) {
                case 0: prepare(h, slot, kRead, sector, sectors * kSectorBytes); break;
                case 1: clear(h, slot, kZeroes, sector, sectors); break;
                case 2: clear(h, slot, kDiscards, sector, sectors); break;
                default: write(h, slot, sector, static_cast<char>(random()), sectors); break;
            }
        }
        h->reg(0x50, 0);
        done = static_cast<std::uint16_t>(done + requests);
        run_until_used(h, done);
        ASSERT_EQ(recorder->image, contents(path)) << n;
    }
    EXPECT_GT(recorder->offsets.size(), 100u);
}

TEST_F(DiskTest, AGuestThatChangesItsBufferMeanwhileCannotMakeDiskAndObserverDiffer) {
    auto h = open();
    h.disk->observe(recorder.get());
    std::atomic<bool> stop = false;
    const auto buffer = *h->memory.slice(at(0) + 4096, 32 * kSectorBytes);
    std::thread guest([&] {
        for (std::uint64_t n = 0; !stop; ++n)
            std::atomic_ref<std::uint8_t>(buffer[n * 61 % buffer.size()]).store(static_cast<std::uint8_t>(n));
    });
    for (std::uint16_t n = 1; n <= 200; ++n) {
        prepare(h, 0, kWrite, n % 32, 32 * kSectorBytes);
        h->reg(0x50, 0);
        run_until_used(h, n);
    }
    stop = true;
    guest.join();
    EXPECT_EQ(recorder->image, contents(path));
}

TEST_F(DiskTest, AnObservedDiskReadsAsBeforeAfterDiscard) {
    auto h = open();
    h.disk->observe(recorder.get());
    clear(h, 0, kDiscards, 8, 16);
    h->reg(0x50, 0);
    run_until_used(h, 1);
    EXPECT_EQ(status(h, 0), 0);
    EXPECT_EQ(on_disk(8), 'i');
    EXPECT_TRUE(recorder->offsets.empty());
    h.disk->observe(nullptr);
    clear(h, 0, kDiscards, 8, 16);
    h->reg(0x50, 0);
    run_until_used(h, 2);
    EXPECT_EQ(status(h, 0), 0);
    EXPECT_TRUE(recorder->offsets.empty());
}

TEST_F(DiskTest, AfterAWriteThatFailedHalfWayTheObserverIsToldWhatTheDiskHoldsNow) {
    auto h = open();
    h.disk->observe(recorder.get());
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit little{5 * kSectorBytes, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
    write(h, 0, 4, '!', 4);
    h->reg(0x50, 0);
    run_until_used(h, 1);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(status(h, 0), 1) << "an I/O error";
    EXPECT_FALSE(recorder->offsets.empty());
    EXPECT_EQ(recorder->image, contents(path));
}

TEST_F(DiskTest, NoWriteEscapesAnObserverThatComesAndGoes) {
    auto h = open();
    std::uint16_t done = 0;
    for (int n = 0; n < 100; ++n) {
        for (unsigned slot = 0; slot < kMost; ++slot) write(h, slot, slot, static_cast<char>(n));
        h->reg(0x50, 0);
        Recorder r({});
        h->device.quiesce();
        h.disk->observe(&r);
        const std::uint16_t before = h->used(0);
        r.image = contents(path);
        h->device.resume();
        done = static_cast<std::uint16_t>(done + kMost);
        run_until_used(h, done);
        EXPECT_EQ(r.offsets.size(), static_cast<std::uint16_t>(done - before));
        EXPECT_EQ(r.image, contents(path));
        h.disk->observe(nullptr);
    }
}

TEST_F(DiskTest, AFullObserverHoldsRequestsBackAndAPauseDoesNotWaitForIt) {
    auto h = open();
    h.disk->observe(recorder.get());
    recorder->room = false;
    for (unsigned slot = 0; slot < 3; ++slot) write(h, slot, slot, '#');
    h->reg(0x50, 0);
    h->device.quiesce();
    EXPECT_EQ(h->used(0), 0u);
    h->device.resume();
    EXPECT_EQ(on_disk(0), 'a');
    recorder->room = true;
    recorder->tell();
    run_until_used(h, 3);
    for (std::uint64_t sector = 0; sector < 3; ++sector) EXPECT_EQ(on_disk(sector), '#');
    EXPECT_EQ(recorder->offsets, (std::vector<std::uint64_t>{0, 512, 1024}));
}

TEST_F(DiskTest, APauseLeavesEachRequestDoneOrInTheQueueAndNoneIsDoneTwice) {
    auto h = open();
    h.disk->observe(recorder.get());
    std::mt19937 random(17);
    std::uint16_t all = 0;
    for (int n = 0; n < 300; ++n) {
        for (unsigned slot = 0; slot < kMost; ++slot)
            write(h, slot, slot * 8, static_cast<char>('A' + n % 26), 1 + random() % 8);
        h->reg(0x50, 0);
        for (unsigned spin = random() % 4; spin != 0; --spin) std::this_thread::yield();
        h->device.quiesce();
        const auto now = static_cast<std::uint16_t>(h->used(0) - all);
        ASSERT_LE(now, kMost);
        ASSERT_EQ(recorder->offsets.size(), h->used(0)) << "told of what is done, and of nothing else";
        for (unsigned slot = 0; slot < kMost; ++slot)
            ASSERT_EQ(status(h, slot), slot < now ? 0 : 0xff) << "in the queue's order";
        ASSERT_EQ(recorder->image, contents(path));
        h->device.resume();
        const std::uint16_t before = all;
        all = static_cast<std::uint16_t>(all + kMost);
        run_until_used(h, all);
        for (unsigned slot = 0; slot < kMost; ++slot) ASSERT_EQ(used_head(h, before + slot), 3 * slot);
    }
    EXPECT_EQ(recorder->offsets.size(), 300 * kMost);
    EXPECT_FALSE(h->needs_reset());
}

TEST_F(DiskTest, WhatWentBackIntoTheQueueIsServedWhereTheStateIsLoaded) {
    auto a = open();
    a.disk->observe(recorder.get());
    recorder->room = false;
    for (unsigned slot = 0; slot < 3; ++slot) write(a, slot, slot, '%');
    a->reg(0x50, 0);
    a->device.quiesce();
    const auto state = a->device.save();
    auto b = open();
    std::copy(a->memory.bytes().begin(), a->memory.bytes().end(), b->memory.bytes().begin());
    ASSERT_TRUE(b->device.load(state));
    b->device.resume();
    run_until_used(b, 3);
    for (std::uint64_t sector = 0; sector < 3; ++sector) EXPECT_EQ(on_disk(sector), '%');
    EXPECT_TRUE(recorder->offsets.empty()) << "the first host has done nothing";
    a.disk->observe(nullptr);
}

TEST_F(DiskTest, ARingThatWasRewrittenDuringAPauseBreaksTheDeviceAndNothingElse) {
    std::mt19937 random(23);
    bool broke = false;
    for (int n = 0; n < 200; ++n) {
        auto h = open();
        Recorder none({});
        none.room = false;
        h.disk->observe(&none);
        for (unsigned slot = 0; slot < kMost; ++slot) prepare(h, slot, kRead, slot, kSectorBytes);
        h->reg(0x50, 0);
        h->device.quiesce();
        if (random() % 2 == 0) h->poke(kAvail + 2, static_cast<std::uint16_t>(random()));
        for (unsigned i = 0; i < 16; ++i)
            if (random() % 4 == 0) h->poke(kAvail + 4 + i * 2, static_cast<std::uint16_t>(random() % 20));
        h.disk->observe(nullptr);
        h->device.resume();
        h->device.quiesce();
        broke = broke || h->needs_reset();
        h->reg(0x70, 0);
        EXPECT_FALSE(h->needs_reset());
    }
    EXPECT_TRUE(broke);
}

struct SlowFlush {
    SlowFlush() {
        one = this;
        during_flush = [] { one.load()->enter(); };
    }
    ~SlowFlush() { during_flush = nullptr; }
    void enter() {
        std::unique_lock lock(mutex);
        ++entered;
        changed.notify_all();
        changed.wait(lock, [&] { return allowed >= entered; });
    }
    void wait_for(unsigned n) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return entered >= n; });
    }
    void allow(unsigned n) {
        std::lock_guard lock(mutex);
        allowed = n;
        changed.notify_all();
    }
    static std::atomic<SlowFlush*> one;
    std::mutex mutex;
    std::condition_variable changed;
    unsigned entered = 0, allowed = 0;
};
std::atomic<SlowFlush*> SlowFlush::one = nullptr;

TEST_F(DiskTest, APauseWaitsForASlowFlushNotTheFirstTimeButTheSecond) {
    SlowFlush slow;
    auto h = open();
    h.disk->observe(recorder.get());
    write(h, 0, 0, '1');
    prepare(h, 1, kFlushes, 0, 0);
    write(h, 2, 2, '2');
    h->reg(0x50, 0);
    slow.wait_for(1);
    h->device.quiesce();
    EXPECT_EQ(h->used(0), 1u) << "the write before it";
    EXPECT_EQ(status(h, 1), 0xff);
    h->device.resume();
    slow.allow(1);
    slow.wait_for(2);
    auto pause = std::async(std::launch::async, [&] { h->device.quiesce(); });
    slow.allow(2);
    pause.get();
    EXPECT_GE(h->used(0), 2u) << "the flush has ended, however short epochs are";
    EXPECT_EQ(status(h, 1), 0);
    h->device.resume();
    run_until_used(h, 3);
    EXPECT_EQ(slow.entered, 2u);
    for (unsigned n = 0; n < 3; ++n) EXPECT_EQ(used_head(h, n), 3 * n);
    EXPECT_EQ(on_disk(2), '2');
}

TEST_F(DiskTest, ReadsWhateverTheBufferAndRefusesWhatIsOutside) {
    auto h = open();
    const Disk& d = *h.disk;
    EXPECT_EQ(d.name(), "virtio0:block");
    EXPECT_EQ(d.path(), path);
    EXPECT_EQ(d.size(), kSectors * kSectorBytes);
    EXPECT_FALSE(d.read_only());
    const auto all = contents(path);
    std::vector<std::uint8_t> to(all.size() + 1);
    for (const std::size_t shift : {0, 1}) {
        const auto part = std::span(to).subspan(shift, 3 * kSectorBytes);
        ASSERT_TRUE(d.read(7 * kSectorBytes, part));
        EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 7 * kSectorBytes));
    }
    EXPECT_FALSE(d.read(all.size(), std::span(to).first(kSectorBytes)));
    EXPECT_FALSE(d.read(~0ull - 511, std::span(to).first(kSectorBytes)));
    EXPECT_FALSE(d.read(1, std::span(to).first(kSectorBytes)));
    EXPECT_FALSE(d.read(0, std::span(to).first(100)));
}

}  // namespace
}  // namespace proa::vmm
