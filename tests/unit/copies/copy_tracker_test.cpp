// User space's half of copy-on-write beside the hypervisor's own (CopyPool): whatever vCPUs and device models write, and in
// whichever order, the reader ends up with each held page as it was at the pause.
#include "vmm/hv/copy_tracker.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "hypervisor/mm/copy_pool.hpp"
#include "vmm/hv/hv_checkpointer.hpp"

namespace proa::vmm {
namespace {

constexpr std::uint64_t kPages = 1024;
using Image = std::map<std::uint64_t, std::vector<std::uint8_t>>;

struct Rig {
    Rig() : ram(kPages * 4096), memory(ram) {
        for (auto& c : chunks) c = std::make_unique<abi::CopyChunk>();
        abi::CopyChunk* given[] = {chunks[0].get(), chunks[1].get()};
        pool.give(given, 2);
        tracker = std::make_unique<CopyTracker>(memory, std::vector{given[0], given[1]});
        memory.watch(tracker.get());
    }
    void hold(const std::set<std::uint64_t>& pages) {
        dirtylog::Bitmap b(kPages);
        at_pause.clear();
        for (const std::uint64_t p : pages) {
            b.set(p);
            at_pause[p] = bytes(p);
        }
        held = pages;
        tracker->begin(b);
        copies.clear();
    }
    std::vector<std::uint8_t> bytes(std::uint64_t p) {
        const auto s = memory.page(p);
        return {s.begin(), s.end()};
    }
    void stamp(std::uint64_t p, std::uint64_t at) {
        std::memcpy(memory.page(p).data() + at % 512 * 8, &++next, 8);
    }
    // As proa-hv serves a vCPU's write.
    void vcpu(std::uint64_t p, std::uint64_t at = 0) {
        if (held.erase(p) != 0) {
            ASSERT_TRUE(pool.take(p, memory.page(p).data()));
        }
        stamp(p, at);
    }
    void device(std::uint64_t p, std::uint64_t at = 0) {
        memory.before_write(abi::kRamBase + p * 4096 + at % 512 * 8, 8);
        stamp(p, at);
    }
    void take() {
        tracker->take([&](std::uint64_t p, std::span<const std::uint8_t> b) {
            EXPECT_TRUE(copies.emplace(p, std::vector<std::uint8_t>(b.begin(), b.end())).second)
                << "page " << p << " has two copies";
        });
    }
    void release_all() {
        tracker->release_all();
        held.clear();
        pool.clear();
    }

    std::vector<std::uint8_t> ram;
    GuestMemory memory;
    std::unique_ptr<abi::CopyChunk> chunks[2];
    hv::CopyPool pool;
    std::unique_ptr<CopyTracker> tracker;
    std::set<std::uint64_t> held;
    Image at_pause, copies;
    std::uint64_t next = 0;
};

TEST(CopyTracker, ADevicesWriteToAHeldPageIsPrecededByACopy) {
    Rig r;
    r.hold({3, 4});
    r.device(3);
    r.device(3, 9);
    r.device(5);
    r.take();
    ASSERT_EQ(r.copies.size(), 1u);
    EXPECT_EQ(r.copies[3], r.at_pause[3]);
    EXPECT_EQ(r.tracker->device_copies(), 1u);
}

TEST(CopyTracker, OfTwoCopiesTheFirstIsRight) {
    Rig r;
    r.hold({3, 4});
    r.device(3);
    r.vcpu(3, 1);  // proa-hv doesn't know of the device: its copy has the device's write
    r.vcpu(4);
    r.device(4, 1);
    r.take();
    ASSERT_EQ(r.copies.size(), 2u);
    EXPECT_EQ(r.copies[3], r.at_pause[3]);
    EXPECT_EQ(r.copies[4], r.at_pause[4]);
    EXPECT_EQ(r.pool.used(), 2u);
    EXPECT_EQ(r.tracker->device_copies(), 1u);
}

TEST(CopyTracker, WritesAcrossPagesCopyEachOfThem) {
    Rig r;
    r.hold({7, 8, 9, 10});
    r.memory.before_write(abi::kRamBase + 8 * 4096 - 1, 4096 + 2);
    r.take();
    EXPECT_EQ(r.copies.size(), 3u);
    EXPECT_FALSE(r.copies.contains(10));
}

TEST(CopyTracker, ReleasedPagesHaveNoCopiesAnyMore) {
    Rig r;
    r.hold({3, 600, 601});
    r.vcpu(3);
    r.device(600);
    r.tracker->release(0, 512);
    r.take();
    EXPECT_EQ(r.copies.size(), 1u);
    r.tracker->release(512, 512);
    r.device(601);
    r.vcpu(601);
    r.take();
    EXPECT_EQ(r.copies.size(), 1u);
    EXPECT_EQ(r.tracker->device_copies(), 1u);
}

TEST(CopyTracker, ACheckpointKnowsNothingOfTheOneBefore) {
    Rig r;
    for (unsigned n = 0; n < 3; ++n) {
        r.hold({1, 2});
        r.vcpu(1);
        r.device(2);
        r.take();
        EXPECT_EQ(r.copies[1], r.at_pause[1]);
        EXPECT_EQ(r.copies[2], r.at_pause[2]);
        r.vcpu(2);
        r.release_all();
        r.take();
        EXPECT_EQ(r.copies.size(), 2u);
    }
}

TEST(CopyTracker, WhoReadsLiveAndThenLooksForCopiesReadsThePause) {
    for (unsigned seed = 1; seed <= 30; ++seed) {
        Rig r;
        std::mt19937 random(seed);
        for (unsigned epoch = 0; epoch < 4; ++epoch) {
            std::set<std::uint64_t> pages;
            for (unsigned i = 0; i < 300; ++i) pages.insert(random() % kPages);
            r.hold(pages);
            Image image;
            std::uint64_t range = 0;
            for (const std::uint64_t p : pages) {
                if (p >= range + 512) {
                    r.take();
                    r.tracker->release(range, 512);
                    for (std::uint64_t q = range; q < range + 512; ++q) r.held.erase(q);
                    range += 512;
                }
                for (unsigned i = random() % 3; i > 0; --i)
                    random() % 2 == 0 ? r.vcpu(random() % kPages, random())
                                      : r.device(random() % kPages, random());
                image[p] = r.bytes(p);
                if (random() % 16 == 0) r.take();
            }
            r.take();
            for (const auto& [p, b] : r.at_pause)
                ASSERT_EQ(r.copies.contains(p) ? r.copies[p] : image[p], b) << "page " << p << " seed " << seed;
            r.release_all();
        }
    }
}

// Device models on two threads beside the reader: no page has two copies, each copy is whole. (Each page's words say the
// same: a torn copy shows.)
TEST(CopyTracker, ThreadsThatWriteAtTheSameTimeAgree) {
    Rig r;
    std::set<std::uint64_t> pages;
    for (std::uint64_t p = 0; p < kPages; ++p) pages.insert(p);
    for (unsigned round = 0; round < 20; ++round) {
        r.hold(pages);
        std::atomic<unsigned> running{2};
        const auto write = [&](std::uint64_t from) {
            for (std::uint64_t p = from; p < kPages; p += 2) {
                r.memory.before_write(abi::kRamBase + p * 4096, 4096);
                std::memset(r.memory.page(p).data(), static_cast<int>(round + 1), 4096);
                if (p + 1 < kPages)
                    r.memory.before_write(abi::kRamBase + (p + 1) * 4096, 8);  // the other's page too
            }
            --running;
        };
        std::thread a(write, 0), b(write, 1);
        while (running != 0) r.take();
        a.join();
        b.join();
        r.take();
        ASSERT_EQ(r.copies.size(), kPages);
        for (const auto& [p, bytes] : r.copies) ASSERT_EQ(bytes, r.at_pause[p]);
        r.release_all();
    }
}

TEST(CopyPoolSize, IsAQuarterOfMemoryWithinBounds) {
    EXPECT_EQ(HvCheckpointer::pool_bytes(2ull << 20), 4ull << 20);
    EXPECT_EQ(HvCheckpointer::pool_bytes(63ull << 20), 14ull << 20);
    EXPECT_EQ(HvCheckpointer::pool_bytes(8ull << 30), 64ull << 20);
}

}  // namespace
}  // namespace proa::vmm
