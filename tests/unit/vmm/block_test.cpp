// virtio-blk: what a driver may ask of a disk, what an observer is told, and what a pause leaves behind.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tests/unit/vmm/virtio_rig.hpp"

namespace proa::vmm {
namespace {

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

// Descriptor 0: the header of a read of sector 1; what follows is at 1.
void read_request(Rig& r) {
    r.poke<std::uint32_t>(kData, 0);
    r.poke<std::uint64_t>(kData + 8, 1);
    r.descriptor(0, 0, kData, 16, 1, 1);
}

// The worker sleeps when the broken chain comes: whoever waits for the good one before it must not wait for ever.
TEST_F(BlockTest, ABrokenChainAfterAGoodOneStillLeavesTheDeviceResettable) {
    auto r = open(false);
    read_request(*r);
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
    read_request(*r);
    r->descriptor(0, 1, kData + 4096, 513, 3, 2);
    r->descriptor(0, 2, abi::kRamBase, 0, 2);
    r->offer(0, 0);
    r->reg(0x50, 0);
    loop.run_one();
    EXPECT_EQ(r->peek<std::uint8_t>(kData + 4096 + 512), 0) << "the status, behind the sector's data";
}

TEST_F(BlockTest, MoreRequestsInFlightThanTheQueueHoldsBreakTheDevice) {
    auto r = open(false);
    read_request(*r);
    r->descriptor(0, 1, kData + 4096, 512, 3, 2);
    r->descriptor(0, 2, kData + 512, 1, 2);
    for (unsigned n = 0; n < 2u * SplitQueue::kMaxSize / 16 && !r->needs_reset();
         ++n) {  // nothing is ever used
        for (unsigned i = 0; i < 16; ++i) r->offer(0, 0);
        r->reg(0x50, 0);
    }
    EXPECT_TRUE(r->needs_reset());
}

}  // namespace
}  // namespace proa::vmm
