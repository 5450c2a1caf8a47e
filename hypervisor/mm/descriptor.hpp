// Translation table descriptors, 4 KiB granule (Arm ARM D8.3): the bits every format shares, and stage 2's own.
#pragma once
#include <cstdint>

#include "hypervisor/mm/address.hpp"

namespace proa::hv {

namespace pte {
inline constexpr std::uint64_t Valid = 1 << 0;
inline constexpr std::uint64_t Table = 1 << 1;  // levels 0..2: next-level table; level 3: page
inline constexpr std::uint64_t AF = 1 << 10;
inline constexpr std::uint64_t SH_INNER = 3ull << 8;
inline constexpr std::uint64_t kAddress = 0x0000'ffff'ffff'f000;
constexpr unsigned shift(unsigned level) {
    return 39 - 9 * level;
}  // bytes one entry covers, as a power of two
constexpr std::uint64_t span(unsigned level) {
    return 1ull << shift(level);
}
constexpr bool is_table(std::uint64_t e, unsigned level) {
    return level < 3 && (e & 3) == 3;
}
constexpr bool is_leaf(std::uint64_t e, unsigned level) {
    return level < 3 ? (e & 3) == 1 : (e & 3) == 3;
}
constexpr std::uint64_t leaf_bits(unsigned level) {
    return Valid | (level == 3 ? Table : 0);
}
}  // namespace pte

// Stage 2 (D8.3.2, table D8-36).
namespace s2 {
inline constexpr std::uint64_t NormalWb = 0xfull << 2;  // MemAttr: inner and outer write-back
inline constexpr std::uint64_t DeviceNgnre = 0x1ull << 2;
inline constexpr std::uint64_t R = 1ull << 6, W = 1ull << 7;  // S2AP
inline constexpr std::uint64_t DBM = 1ull << 51;              // hardware sets W on a write (FEAT_HAFDBS)
inline constexpr std::uint64_t XN = 2ull << 53;
inline constexpr std::uint64_t Writable = 1ull << 55;  // software: may become W, whatever W says now
inline constexpr std::uint64_t Touched = 1ull << 56;   // software, table entry: a page below was written
// Software. Page: a copy comes before the next write; neither W nor DBM is set then. Table entry: a page below is.
inline constexpr std::uint64_t Held = 1ull << 57;
inline constexpr std::uint64_t kAttributes = ~(pte::kAddress | pte::Valid | pte::Table);
}  // namespace s2

}  // namespace proa::hv
