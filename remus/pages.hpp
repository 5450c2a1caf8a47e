// How a page of a checkpoint travels: not at all (its hash says that the backup has it), as zero, as the compressed
// difference from what the backup has, or plain; per page, by what pays. What a Pages record holds is in docs/STREAM.md.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/error.hpp"

namespace proa::remus {

inline constexpr std::uint64_t kPageBytes = 4096;

struct PageCounts {
    std::uint64_t unchanged = 0, zero = 0, delta = 0, plain = 0;
    std::uint64_t bytes = 0;  // of records, before the frame's compression
};

// The primary's side. Remembers a hash of every page the backup has, and the contents of those it sent lately (bounded).
class PageEncoder {
  public:
    // `pages`: of the guest's RAM. `cache_bytes` bounds the remembered contents.
    PageEncoder(std::uint64_t pages, std::uint64_t cache_bytes);
    ~PageEncoder();
    // Adds one page, in ascending order within a record. `bytes` may be live guest memory: it is read once, into a buffer.
    void add(std::uint64_t number, std::span<const std::uint8_t> bytes);
    bool full() const;   // take it now
    bool empty() const;  // nothing to send (all may have been unchanged)
    // The record's payload, then a fresh record begins. Valid until the next call.
    std::span<const std::uint8_t> take();
    // The checkpoint that holds all pages added since the last commit() is acknowledged...
    void commit();
    // ...or never will be: the backup is gone. Everything is forgotten.
    void reset();
    const PageCounts& counts() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// The backup's side: what a record says, checked as a whole; nothing is applied. `base` is guest RAM as of the last applied
// checkpoint (for deltas); a page that `pending` has already holds there instead.
struct PageUpdate {
    std::uint64_t number = 0;
    bool zero = false;
    std::vector<std::uint8_t> bytes;  // 4096 unless zero
};
transport::Result<std::vector<PageUpdate>> decode_pages(std::span<const std::uint8_t> record,
                                                        std::span<const std::uint8_t> base);

}  // namespace proa::remus
