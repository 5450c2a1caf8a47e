#include "remus/page_delta.hpp"

#include <bit>
#include <cstring>

namespace proa::remus {
namespace {

constexpr std::size_t kGroups = 8, kGroupWords = 64, kGroupBytes = 8 * kGroupWords;

std::uint64_t load(const std::uint8_t* p) {
    std::uint64_t v;
    std::memcpy(&v, p, 8);
    return v;
}

}  // namespace

std::size_t encode_delta(const std::uint8_t* page, const std::uint8_t* base, std::span<std::uint8_t> to) {
    std::uint64_t words[kGroups * kGroupWords], masks[kGroups];
    std::size_t word_count = 0, mask_count = 0, bytes = 0;
    unsigned groups = 0;
    for (std::size_t g = 0; g < kGroups; ++g, page += kGroupBytes, base += kGroupBytes) {
        if (std::memcmp(page, base, kGroupBytes) == 0) continue;
        std::uint64_t mask = 0;
        for (std::size_t i = 0; i < kGroupWords; ++i) {  // no branch: which words differ can't be predicted
            const std::uint64_t x = load(page + 8 * i) ^ load(base + 8 * i);
            words[word_count] = x;
            word_count += x != 0;
            mask |= static_cast<std::uint64_t>(x != 0) << i;
        }
        groups |= 1u << g;
        masks[mask_count++] = mask;
        bytes = 1 + 8 * (mask_count + word_count);
        if (bytes > to.size()) return 0;
    }
    if (groups == 0) return 0;
    to[0] = static_cast<std::uint8_t>(groups);
    std::memcpy(to.data() + 1, masks, 8 * mask_count);
    std::memcpy(to.data() + 1 + 8 * mask_count, words, 8 * word_count);
    return bytes;
}

bool apply_delta(std::span<const std::uint8_t> delta, std::uint8_t* page) {
    if (delta.size() < kLeastDelta || delta.size() % 8 != 1) return false;
    const unsigned groups = delta[0];
    const auto mask_count = static_cast<std::size_t>(std::popcount(groups));
    std::size_t left = delta.size() / 8;  // masks and words that are still there
    if (groups == 0 || left < mask_count) return false;
    const std::uint8_t *mask_at = delta.data() + 1, *word_at = mask_at + 8 * mask_count;
    left -= mask_count;
    for (std::size_t g = 0; g < kGroups; ++g) {
        if ((groups >> g & 1) == 0) continue;
        std::uint64_t mask = load(mask_at);
        mask_at += 8;
        const auto n = static_cast<std::size_t>(std::popcount(mask));
        if (n == 0 || n > left) return false;
        left -= n;
        for (; mask != 0; mask &= mask - 1, word_at += 8) {
            std::uint8_t* to = page + g * kGroupBytes + 8 * static_cast<std::size_t>(std::countr_zero(mask));
            const std::uint64_t v = load(to) ^ load(word_at);
            std::memcpy(to, &v, 8);
        }
    }
    return left == 0;
}

}  // namespace proa::remus
