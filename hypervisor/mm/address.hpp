// Addresses as types: a physical address, a guest's intermediate physical address. EL2 maps physical memory at the
// same virtual address, so a Pa becomes a pointer only through an explicit conversion (page_pool.hpp).
#pragma once
#include <compare>
#include <cstdint>

namespace proa::hv {

inline constexpr std::uint64_t kPage = 4096, kChunk = 2ull << 20, kGig = 1ull << 30;

template <class Tag>
struct Address {
    std::uint64_t v = 0;
    constexpr Address() = default;
    constexpr explicit Address(std::uint64_t a) : v(a) {}
    constexpr Address operator+(std::uint64_t n) const { return Address(v + n); }
    constexpr std::uint64_t operator-(Address o) const { return v - o.v; }
    constexpr auto operator<=>(const Address&) const = default;
    constexpr bool aligned(std::uint64_t to) const { return (v & (to - 1)) == 0; }
    constexpr Address floor(std::uint64_t to) const { return Address(v & ~(to - 1)); }
};
using Pa = Address<struct PaTag>;
using Ipa = Address<struct IpaTag>;

}  // namespace proa::hv
