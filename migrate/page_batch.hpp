// Page batches: what a Pages record holds (docs/STREAM.md). A batch names up to kMaxBatch pages, ascending, each either
// all zero (no payload) or plain (4096 bytes). Encoding reads guest memory once; decoding checks everything before it
// writes anything.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

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
    // `page` is RAM page `number`'s bytes; numbers ascend within a batch.
    void add(std::uint64_t number, std::span<const std::uint8_t> page);
    bool full() const { return entries_.size() == kMaxBatch; }
    bool empty() const { return entries_.empty(); }
    // The record's payload; the encoder is empty again after clear().
    std::span<const std::uint8_t> bytes();
    void clear();
    const BatchCounts& counts() const { return counts_; }  // since construction

  private:
    std::vector<std::uint64_t> entries_;
    std::vector<std::uint8_t> plain_, out_;
    BatchCounts counts_;
};

// Writes the batch into `ram` (page 0 at its start). Nothing is written if anything is wrong with it.
transport::Result<BatchCounts> apply_batch(std::span<const std::uint8_t> record, std::span<std::uint8_t> ram);

}  // namespace proa::migrate
