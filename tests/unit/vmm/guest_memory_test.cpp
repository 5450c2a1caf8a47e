// What GuestMemory knows about who wrote what.
#include "vmm/guest_memory.hpp"

#include <gtest/gtest.h>

namespace proa::vmm {
namespace {

constexpr std::uint64_t kChunkPages = 512;

struct Memory {
    std::vector<std::uint8_t> ram = std::vector<std::uint8_t>(6u << 20);
    GuestMemory memory{ram};
    std::uint64_t ever() const {
        dirtylog::Bitmap b(memory.pages());
        memory.add_ever_written(b);
        return b.count();
    }
};

TEST(GuestMemory, WhatDeviceModelsEverWroteIsKeptWhenTheirWritesAreTaken) {
    Memory m;
    EXPECT_EQ(m.ever(), 0u);
    m.memory.mark_dirty(abi::kRamBase + 600 * 4096, 1);
    dirtylog::Bitmap taken(m.memory.pages());
    m.memory.take_device_writes(taken);
    EXPECT_EQ(taken.count(), 1u);
    dirtylog::Bitmap ever(m.memory.pages());
    m.memory.add_ever_written(ever);
    EXPECT_EQ(ever.count(), kChunkPages);
    EXPECT_TRUE(ever.test(600));
    EXPECT_TRUE(ever.test(512));
    EXPECT_FALSE(ever.test(511));
}

TEST(GuestMemory, AWriteAcrossChunksCountsForBoth) {
    Memory m;
    m.memory.mark_dirty(abi::kRamBase + (2u << 20) - 1, 2);
    EXPECT_EQ(m.ever(), 2 * kChunkPages);
    m.memory.mark_dirty(abi::kRamBase, 0);
    EXPECT_EQ(m.ever(), 2 * kChunkPages) << "nothing was written";
}

TEST(GuestMemory, MemoryThatCameFromElsewhereIsAllWritten) {
    Memory m;
    m.memory.mark_all_written();
    EXPECT_EQ(m.ever(), m.memory.pages());
    dirtylog::Bitmap came(m.memory.pages());
    came.set(511);
    came.set(1'100);
    m.memory.came_with(came);
    EXPECT_EQ(m.ever(), 2 * kChunkPages) << "until it is known which pages came";
}

}  // namespace
}  // namespace proa::vmm
