// Page batches: what a Pages record holds (docs/STREAM.md). A batch names up to kMaxBatch pages, ascending, each either
// all zero (no payload) or plain (4096 bytes). Encoding reads guest memory once; decoding checks everything before it
// writes anything.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "dirtylog/bitmap_view.hpp"
#include "transport/error.hpp"

namespace proa::migrate {

inline constexpr unsigned kMaxBatch = 256;
inline constexpr std::uint64_t kPageBytes = 4096;

bool is_zero(std::span<const std::uint8_t> page);

struct BatchCounts {
    std::uint64_t zero = 0, plain = 0;
};

class BatchEncoder {
  public:
    // `page` is RAM page `number`'s bytes; numbers ascend within a batch. Not when full().
    void add(std::uint64_t number, std::span<const std::uint8_t> page);
    bool full() const { return entries_.size() == kMaxBatch; }
    bool empty() const { return entries_.empty(); }
    // The record's payload; the encoder is empty again after clear().
    std::span<const std::uint8_t> bytes();
    void clear();
    const BatchCounts& counts() const { return counts_; }  // since construction

  private:
    static constexpr std::size_t kMostBefore =
        8 + 8 * kMaxBatch;  // the count and the numbers, before the pages
    std::vector<std::uint64_t> entries_;
    std::vector<std::uint8_t> out_ = std::vector<std::uint8_t>(kMostBefore + kMaxBatch * kPageBytes);
    std::size_t end_ = kMostBefore;  // of the plain pages in out_
    BatchCounts counts_;
};

// Writes the batch into `ram` (page 0 at its start). Nothing is written if anything is wrong with it. `written`: the pages of
// RAM that was new and zero which have been written since; one that is not among them, and zero again, is not even read.
transport::Result<BatchCounts> apply_batch(std::span<const std::uint8_t> record, std::span<std::uint8_t> ram,
                                           dirtylog::BitmapView* written = nullptr);

}  // namespace proa::migrate
