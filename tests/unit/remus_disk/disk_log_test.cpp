// What the primary keeps of a disk's writes until a checkpoint takes them.
#include "remus/disk_log.hpp"

#include <gtest/gtest.h>

#include <random>

namespace proa::remus {
namespace {

constexpr std::uint64_t kSector = 512;

void apply(std::vector<std::uint8_t>& image, const std::vector<DiskWritesRecord>& records) {
    for (const auto& r : records) {
        std::size_t from = 0;
        for (const auto& w : r.writes) {
            ASSERT_LE(w.offset + w.length, image.size());
            const auto to = image.begin() + static_cast<std::ptrdiff_t>(w.offset);
            if (w.zero) {
                std::fill_n(to, w.length, std::uint8_t{0});
                continue;
            }
            ASSERT_LE(from + w.length, r.data.size());
            std::copy_n(r.data.begin() + static_cast<std::ptrdiff_t>(from), w.length, to);
            from += w.length;
        }
        EXPECT_EQ(from, r.data.size());
    }
}

TEST(DiskLog, WhatIsTakenEpochByEpochMakesTheSameDisk) {
    std::mt19937 random(7);
    std::vector<std::uint8_t> disk(256 * kSector, 1), replica = disk;
    DiskLog log(3, 1u << 30);
    for (int epoch = 0; epoch < 50; ++epoch) {
        for (unsigned n = random() % 40; n != 0; --n) {
            const std::uint64_t at = random() % 240 * kSector, length = (1 + random() % 16) * kSector;
            const auto part = std::span(disk).subspan(at, length);
            const bool zero = random() % 4 == 0;
            for (auto& b : part) b = zero ? std::uint8_t{0} : static_cast<std::uint8_t>(random());
            if (zero && random() % 2 == 0)
                log.zeroed(at, length);
            else
                log.wrote(at, part);
        }
        const auto records = log.take();
        for (const auto& r : records) EXPECT_EQ(r.disk, 3u);
        apply(replica, records);
        ASSERT_EQ(replica, disk) << epoch;
    }
    EXPECT_TRUE(log.take().empty());
}

TEST(DiskLog, RecordsFitAFrameAndNeighboursShareAWrite) {
    DiskLog log(0, 1u << 30);
    const std::vector<std::uint8_t> sector(kSector, 9), large(5u << 20, 7);
    log.wrote(0, sector);
    log.wrote(kSector, sector);
    log.wrote(8 * kSector, sector);
    auto records = log.take();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].writes.size(), 2u);
    log.wrote(0, large);
    for (std::uint64_t n = 0; n < 10'000; ++n) log.zeroed(n * 2 * kSector, kSector);
    records = log.take();
    std::uint64_t data = 0, writes = 0;
    for (const auto& r : records) {
        EXPECT_LE(r.data.size() + 16 * r.writes.size() + 8, transport::kMaxPayload);
        EXPECT_FALSE(r.writes.empty());
        data += r.data.size();
        writes += r.writes.size();
    }
    EXPECT_EQ(data, large.size());
    EXPECT_EQ(writes, 10'000u + 5u);
}

TEST(DiskLog, ZeroesCostNoData) {
    DiskLog log(0, 1u << 30);
    log.wrote(0, std::vector<std::uint8_t>(64 * kSector));
    const auto records = log.take();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_TRUE(records[0].writes[0].zero);
    EXPECT_TRUE(records[0].data.empty());
}

TEST(DiskLog, AFullOneHasNoRoomUntilItIsTakenOrClosed) {
    DiskLog log(0, 8 * kSector);
    unsigned told = 0;
    log.on_room([&] { ++told; });
    const std::vector<std::uint8_t> eight(8 * kSector, 1);
    log.wrote(0, std::span(eight).first(kSector));
    EXPECT_TRUE(log.has_room());
    (void)log.take();
    EXPECT_EQ(told, 0u) << "nobody waits";
    log.wrote(0, eight);
    EXPECT_FALSE(log.has_room());
    EXPECT_GE(log.bytes(), eight.size());
    EXPECT_EQ(log.take().size(), 1u);
    EXPECT_TRUE(log.has_room());
    EXPECT_EQ(told, 1u);
    log.wrote(0, eight);
    log.close();
    EXPECT_EQ(told, 2u);
    log.wrote(0, eight);
    EXPECT_TRUE(log.has_room());
    EXPECT_TRUE(log.take().empty());
}

}  // namespace
}  // namespace proa::remus
