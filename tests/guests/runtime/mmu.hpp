#pragma once
#include <cstdint>

namespace guest {

// SCTLR_EL1: RES1 bits of Armv8.0, I, C, M.
inline constexpr std::uint64_t kSctlrOff = 0x30d0'0800, kSctlrOn = kSctlrOff | 1 << 12 | 1 << 2 | 1;
// Address a is also at a + kHighAlias, through TTBR1_EL1.
inline constexpr std::uint64_t kHighAlias = 0xffff'ff00'0000'0000;

}  // namespace guest
