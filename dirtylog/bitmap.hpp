// One bit per 4 KiB guest page, two levels: a summary bit says that its 64-bit word is not zero, so walking a
// clean bitmap costs 1/64 of its size. set() may be called from any thread; taking is atomic per word, so a
// bit set while the bitmap is drained is either taken now or kept for the next drain, never lost.
#pragma once
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace proa::dirtylog {

class Bitmap {
  public:
    explicit Bitmap(std::uint64_t pages)
        : pages_(pages), words_((pages + 63) / 64), summary_((words_.size() + 63) / 64) {}

    std::uint64_t pages() const { return pages_; }

    void set(std::uint64_t page) { or_word(page / 64, 1ull << (page % 64)); }
    bool test(std::uint64_t page) const { return load(words_[page / 64]) >> (page % 64) & 1; }

    // ORs 64 pages at once; bits at or past pages() must be zero.
    void or_word(std::uint64_t word, std::uint64_t bits) {
        if (bits == 0) return;
        at(words_[word]).fetch_or(bits, std::memory_order_relaxed);
        at(summary_[word / 64]).fetch_or(1ull << (word % 64), std::memory_order_release);
    }

    void fill() {
        for (std::uint64_t w = 0; w < words_.size(); ++w)
            or_word(w, w + 1 == words_.size() && pages_ % 64 ? (1ull << (pages_ % 64)) - 1 : ~0ull);
    }

    std::uint64_t count() const {
        std::uint64_t n = 0;
        for (const auto& w : words_) n += static_cast<std::uint64_t>(std::popcount(load(w)));
        return n;
    }
    bool empty() const {
        for (const auto& s : summary_)
            if (load(s) != 0) return false;
        return true;
    }

    // Calls f(word index, bits) for each non-zero word and clears it.
    template <class F>
    void drain(F&& f) {
        for (std::size_t s = 0; s < summary_.size(); ++s) {
            std::uint64_t live = at(summary_[s]).exchange(0, std::memory_order_acquire);
            for (; live != 0; live &= live - 1) {
                const std::uint64_t w = s * 64 + static_cast<std::uint64_t>(std::countr_zero(live));
                if (const std::uint64_t bits = at(words_[w]).exchange(0, std::memory_order_relaxed)) f(w, bits);
            }
        }
    }
    void drain_into(Bitmap& other) {
        drain([&](std::uint64_t w, std::uint64_t bits) { other.or_word(w, bits); });
    }

    // Takes the bits of one word (returns and clears them).
    std::uint64_t take_word(std::uint64_t word) {
        return at(words_[word]).exchange(0, std::memory_order_relaxed);
    }
    std::uint64_t words() const { return words_.size(); }

  private:
    static std::atomic_ref<std::uint64_t> at(std::uint64_t& w) { return std::atomic_ref<std::uint64_t>(w); }
    static std::uint64_t load(const std::uint64_t& w) { return __atomic_load_n(&w, __ATOMIC_RELAXED); }

    std::uint64_t pages_;
    std::vector<std::uint64_t> words_, summary_;
};

}  // namespace proa::dirtylog
