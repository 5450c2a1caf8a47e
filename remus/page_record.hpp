// What a Pages record is made of, for the two .cpp files that write and read it: a count, that many entries, then what the
// pages' entries announce, in their order. All little endian.
#pragma once
#include <cstdint>

#include "remus/page_delta.hpp"
#include "remus/pages.hpp"

namespace proa::remus::page_record {

enum class Kind : std::uint8_t {
    Plain = 0,  // kPageBytes bytes
    Zero = 1,   // nothing
    Delta = 2,  // `length` bytes: a check, then page_delta.hpp
};

struct Entry {  // 8 bytes on the wire: kind in bits 63-62, length in 61-48 (0 unless Delta), number in 47-0
    std::uint64_t number = 0;
    std::uint32_t length = 0;
    Kind kind = Kind::Plain;

    constexpr std::uint64_t packed() const {
        return number | static_cast<std::uint64_t>(length) << 48 | static_cast<std::uint64_t>(kind) << 62;
    }
    static constexpr Entry unpack(std::uint64_t v) {
        return {v & ((1ull << 48) - 1), static_cast<std::uint32_t>(v >> 48 & 0x3fff),
                static_cast<Kind>(v >> 62)};
    }
};

// Before a delta: the low half of the XXH3-128 of the page that must come out. A base that is not the primary's (a bug, a
// broken memory) is found here, and not after a failover.
inline constexpr std::uint64_t kCheckBytes = 8;
inline constexpr std::uint64_t kMostDelta = kPageBytes / 2;  // with its check: beyond, plain costs hardly more
inline constexpr std::uint64_t kHeaderBytes = 8, kEntryBytes = 8;

}  // namespace proa::remus::page_record
