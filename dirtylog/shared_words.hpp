// The flat bitmap that proa-hv and proa-vm share (ControlArea::bitmap): EL2 ORs words in, user space exchanges them
// for zero. Both may do so at the same time; no bit is lost, none is seen twice. Freestanding.
#pragma once
#include <atomic>
#include <cstdint>

namespace proa::dirtylog {

class SharedWords {
  public:
    explicit SharedWords(std::uint64_t* words) : words_(words) {}

    void publish(std::uint64_t word, std::uint64_t bits) const {
        if (bits != 0) at(word).fetch_or(bits, std::memory_order_release);
    }

    // The bits of a word; they stay.
    std::uint64_t peek(std::uint64_t word) const { return at(word).load(std::memory_order_acquire); }

    // Calls f(word index, bits) for each word of [first, last) that isn't zero, and clears it.
    template <class F>
    void take(std::uint64_t first, std::uint64_t last, F&& f) const {
        for (std::uint64_t w = first; w < last; ++w) {
            if (at(w).load(std::memory_order_relaxed) == 0) continue;
            if (const std::uint64_t bits = at(w).exchange(0, std::memory_order_acquire)) f(w, bits);
        }
    }

  private:
    std::atomic_ref<std::uint64_t> at(std::uint64_t word) const {
        return std::atomic_ref<std::uint64_t>(words_[word]);
    }
    std::uint64_t* words_;
};

}  // namespace proa::dirtylog
