// A page as its difference from another: which of its 512 words of 8 bytes differ, and by what (XOR). Sparse changes, what
// most pages of a checkpoint have, cost 9 bytes and 8 a word; the frame's zstd then takes the zero bytes inside of the words.
//
//   1 byte      groups: bit g set, a word of [64 g, 64 g + 64) differs. Not 0
//   8 bytes     for each such group: which of its words differ. Not 0
//   8 bytes     for each such word: old XOR new
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace proa::remus {

inline constexpr std::size_t kLeastDelta = 1 + 8 + 8;

// Writes at most `to.size()` bytes. Their number; 0 if that is not enough, or if the pages are the same.
std::size_t encode_delta(const std::uint8_t* page, const std::uint8_t* base, std::span<std::uint8_t> to);
// `page` holds the base and becomes what was encoded. False: not a delta; the page then holds anything.
[[nodiscard]] bool apply_delta(std::span<const std::uint8_t> delta, std::uint8_t* page);

}  // namespace proa::remus
