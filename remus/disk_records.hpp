// What the disk side of replication is made of: writes gathered into records of a size that fits a frame, and block hashes.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "remus/records.hpp"

namespace proa::remus {

inline constexpr std::uint32_t kHashBlock = 64 * 1024;
using BlockHash = std::array<std::uint8_t, 16>;

BlockHash hash_of(std::span<const std::uint8_t> block);  // XXH3-128 in its canonical form
bool all_zero(std::span<const std::uint8_t> b);

class DiskRecords {
  public:
    // `disk`: index in the stream's Hello.
    explicit DiskRecords(std::uint32_t disk) : disk_(disk) {}
    // In order; multiples of 512, not empty. Bytes that are all zero travel as a length.
    void add(std::uint64_t offset, std::span<const std::uint8_t> bytes);
    void add_zeroes(std::uint64_t offset, std::uint64_t length);
    std::vector<DiskWritesRecord> take();
    std::uint64_t bytes() const { return bytes_; }  // held, about

  private:
    DiskWritesRecord& with_room();

    std::uint32_t disk_;
    std::uint64_t bytes_ = 0;
    std::vector<DiskWritesRecord> records_;
};

}  // namespace proa::remus
