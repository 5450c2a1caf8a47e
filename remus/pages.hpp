// How a page of a checkpoint travels: not at all (its hash says that the backup has it), as zero, as the difference from
// what the backup has, or plain; per page, by what pays. What a Pages record holds is in docs/STREAM.md.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/error.hpp"

namespace proa::remus {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr unsigned kMaxPages = 256;  // in a record

struct PageCounts {
    std::uint64_t unchanged = 0, zero = 0, delta = 0, plain = 0;
    std::uint64_t bytes = 0;  // of records, before the frame's compression
    std::uint64_t sent() const { return zero + delta + plain; }
};

// The primary's side. Remembers a hash of every page that the backup has from it (of others, such as the first copy's, it knows
// nothing), and the contents of those it sent lately (bounded).
//
// What was added counts as what the backup has at once, not only when it is acknowledged: the stream keeps its order, so the
// backup has applied one checkpoint before it reads the next, and of a checkpoint that fails nothing is left (reset()).
class PageEncoder {
  public:
    // `pages`: of the guest's RAM. `cache_bytes` bounds the remembered contents.
    PageEncoder(std::uint64_t pages, std::uint64_t cache_bytes);
    ~PageEncoder();
    // Adds one page, in ascending order within a record and at most once a checkpoint; not when full(). `bytes` must not
    // change meanwhile (they are read more than once), and be aligned to 8: a copy, not live guest memory.
    void add(std::uint64_t number, std::span<const std::uint8_t> bytes);
    bool full() const;   // take it now
    bool empty() const;  // nothing to send (all may have been unchanged)
    // The record's payload, at most 1 MiB and a little, then a fresh record begins. Valid until the next call. Empty if empty().
    std::span<const std::uint8_t> take();
    // The checkpoint that holds all pages added since the last commit() is acknowledged: remembered contents age...
    void commit();
    // ...or never will be: the backup is gone. Everything is forgotten, also a record that wasn't taken.
    void reset();
    const PageCounts& counts() const;  // since construction

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// The backup's side: what a record says, checked as a whole; nothing is applied.
struct PageUpdate {
    std::uint64_t number = 0;
    std::span<const std::uint8_t> bytes;  // kPageBytes of them, into PageUpdates::bytes; empty: all zero
};
struct PageUpdates {
    std::vector<PageUpdate> pages;  // ascending
    std::unique_ptr<std::uint8_t[]> bytes;
    std::uint64_t held_bytes = 0;  // memory that this takes
};
// `base` is guest RAM as of the last applied checkpoint (for deltas). A record whose updates would take more than
// `most_bytes` is refused before the memory is taken.
transport::Result<PageUpdates> decode_pages(std::span<const std::uint8_t> record,
                                            std::span<const std::uint8_t> base, std::uint64_t most_bytes);

}  // namespace proa::remus
