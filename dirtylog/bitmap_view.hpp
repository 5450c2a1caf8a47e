// One bit per 4 KiB guest page, two levels: a summary bit says that its 64-bit word may not be zero, so walking a
// clean bitmap costs 1/64 of its size. set() may be called from any thread; taking is atomic per word, so a bit set
// while the bitmap is drained is either taken now or kept for the next drain, never lost. The memory is the caller's;
// freestanding.
#pragma once
#include <atomic>
#include <bit>
#include <cstdint>

namespace proa::dirtylog {

constexpr std::uint64_t words_for(std::uint64_t bits) {
    return bits / 64 + (bits % 64 != 0 ? 1 : 0);
}

class BitmapView {
  public:
    // `words` has words_for(pages) entries, `summary` words_for(that), all zero (or a view's own from before).
    BitmapView(std::uint64_t* words, std::uint64_t* summary, std::uint64_t pages)
        : words_(words), summary_(summary), pages_(pages) {}

    std::uint64_t pages() const { return pages_; }
    std::uint64_t words() const { return words_for(pages_); }

    void set(std::uint64_t page) { or_word(page / 64, 1ull << (page % 64)); }
    bool test(std::uint64_t page) const { return (load(words_[page / 64]) >> (page % 64) & 1) != 0; }

    // What was read of the page before is read before others see it clear.
    void clear(std::uint64_t page) {
        at(words_[page / 64]).fetch_and(~(1ull << (page % 64)), std::memory_order_release);
    }

    // ORs 64 pages at once; bits at or past pages() must be zero.
    void or_word(std::uint64_t word, std::uint64_t bits) {
        if (bits == 0) return;
        // The word first: who sees the summary bit sees the word.
        at(words_[word]).fetch_or(bits, std::memory_order_relaxed);
        at(summary_[word / 64]).fetch_or(1ull << (word % 64), std::memory_order_release);
    }

    void fill() {
        for (std::uint64_t w = 0; w < words(); ++w)
            or_word(w, w + 1 == words() && pages_ % 64 != 0 ? (1ull << (pages_ % 64)) - 1 : ~0ull);
    }

    std::uint64_t count() const {
        std::uint64_t n = 0;
        for (std::uint64_t w = 0; w < words(); ++w)
            n += static_cast<std::uint64_t>(std::popcount(load(words_[w])));
        return n;
    }
    bool empty() const {
        for (std::uint64_t s = 0; s < words_for(words()); ++s)
            for (std::uint64_t live = load(summary_[s]); live != 0; live &= live - 1)
                if (load(words_[s * 64 + static_cast<std::uint64_t>(std::countr_zero(live))]) != 0)
                    return false;
        return true;
    }

    // Calls f(word index, bits) for each non-zero word.
    template <class F>
    void for_each(F&& f) const {
        for (std::uint64_t s = 0; s < words_for(words()); ++s)
            for (std::uint64_t live = load(summary_[s]); live != 0; live &= live - 1) {
                const std::uint64_t w = s * 64 + static_cast<std::uint64_t>(std::countr_zero(live));
                if (const std::uint64_t bits = load(words_[w])) f(w, bits);
            }
    }
    // Calls f(word index, bits) for each non-zero word and clears it.
    template <class F>
    void drain(F&& f) {
        for (std::uint64_t s = 0; s < words_for(words()); ++s) {
            if (load(summary_[s]) == 0) continue;
            std::uint64_t live = at(summary_[s]).exchange(0, std::memory_order_acquire);
            for (; live != 0; live &= live - 1) {
                const std::uint64_t w = s * 64 + static_cast<std::uint64_t>(std::countr_zero(live));
                if (const std::uint64_t bits = take_word(w)) f(w, bits);
            }
        }
    }
    void drain_into(BitmapView& other) {
        drain([&](std::uint64_t w, std::uint64_t bits) { other.or_word(w, bits); });
    }

    // Takes the bits of one word (returns and clears them).
    std::uint64_t take_word(std::uint64_t word) {
        return at(words_[word]).exchange(0, std::memory_order_relaxed);
    }

  private:
    static std::atomic_ref<std::uint64_t> at(std::uint64_t& w) { return std::atomic_ref<std::uint64_t>(w); }
    static std::uint64_t load(const std::uint64_t& w) { return __atomic_load_n(&w, __ATOMIC_RELAXED); }

    std::uint64_t* words_;
    std::uint64_t* summary_;
    std::uint64_t pages_;
};

}  // namespace proa::dirtylog
