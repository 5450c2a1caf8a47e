// What virtio-blk's driver and device say to each other (virtio 1.2, 5.2.3 to 5.2.6), and the limits this device announces.
#pragma once
#include <cstddef>
#include <cstdint>

namespace proa::vmm::block {

// Feature bits (5.2.3).
inline constexpr unsigned kSegMax = 2, kRo = 5, kBlkSize = 6, kFlush = 9, kDiscard = 13, kWriteZeroes = 14;
// Request types and status (5.2.6).
inline constexpr std::uint32_t kIn = 0, kOut = 1, kFlushOp = 4, kGetId = 8, kDiscardOp = 11,
                               kWriteZeroesOp = 13;
inline constexpr std::uint8_t kOk = 0, kIoErr = 1, kUnsupported = 2;
inline constexpr std::size_t kHeader = 16, kIdBytes = 20;
inline constexpr std::uint32_t kUnmap = 1;  // flag of WRITE_ZEROES

// Bounds on one DISCARD or WRITE_ZEROES: what the worker thread may be busy with before quiesce() gets its turn.
inline constexpr std::uint32_t kMostDiscard = 1u << 22, kMostZeroes = 1u << 16;  // sectors
inline constexpr std::uint32_t kRanges = 1, kSegments = 126;

struct Config {  // 5.2.4
    std::uint64_t capacity;
    std::uint32_t size_max, seg_max;
    std::uint8_t geometry[4];
    std::uint32_t blk_size;
    std::uint8_t topology[8];
    std::uint8_t writeback, unused0;
    std::uint16_t num_queues;
    std::uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    std::uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    std::uint8_t write_zeroes_may_unmap, unused1[7];
};
static_assert(offsetof(Config, max_discard_sectors) == 36 && offsetof(Config, write_zeroes_may_unmap) == 56);

struct Range {  // 5.2.6, the data of DISCARD and WRITE_ZEROES
    std::uint64_t sector;
    std::uint32_t sectors, flags;
};
static_assert(sizeof(Range) == 16);

}  // namespace proa::vmm::block
