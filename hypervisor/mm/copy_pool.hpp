// Where copies of held pages go: chunks of user space's memory (abi::CopyChunk). What is in them is output only: user
// space may scribble there, so that everything this class decides by is its own. Domain::mm_lock covers it.
#pragma once
#include <cstdint>

#include "hypervisor/abi/control.hpp"

namespace proa::hv {

class CopyPool {
  public:
    // Empty chunks from now on. More than fit, or none: no chunk.
    void give(abi::CopyChunk* const* chunks, std::uint64_t count) {
        count_ = count <= abi::kMaxCopyChunks ? count : 0;
        for (std::uint64_t i = 0; i < count_; ++i) chunks_[i] = chunks[i];
        used_ = count_ * abi::kCopiesPerChunk;
        clear();
    }

    // Copies one page; false: the pool is full. The copy is published before this returns, but a barrier must follow
    // before the page may be written: a store-release doesn't keep later stores behind it.
    bool take(std::uint64_t page, const void* bytes) {
        if (used_ >= count_ * abi::kCopiesPerChunk) return false;
        abi::CopyChunk& c = *chunks_[used_ / abi::kCopiesPerChunk];
        const std::uint64_t i = used_ % abi::kCopiesPerChunk;
        copy_page(c.copy[i], bytes);
        c.page[i] = page;
        __atomic_store_n(&c.published, i + 1, __ATOMIC_RELEASE);
        ++used_;
        return true;
    }

    // All copies are free again.
    void clear() {
        for (std::uint64_t i = 0; i * abi::kCopiesPerChunk < used_; ++i)
            __atomic_store_n(&chunks_[i]->published, 0, __ATOMIC_RELEASE);
        used_ = 0;
    }

    std::uint64_t chunks() const { return count_; }
    std::uint64_t used() const { return used_; }

  private:
    // Wider than memcpy's bytes: this is in the way of a guest's store.
    static void copy_page(void* to, const void* from) {
        auto* d = static_cast<std::uint64_t*>(to);
        auto* s = static_cast<const std::uint64_t*>(from);
        for (unsigned i = 0; i < abi::kPageSize / 8; i += 8) {
            const std::uint64_t a = s[i], b = s[i + 1], c = s[i + 2], e = s[i + 3];
            const std::uint64_t f = s[i + 4], g = s[i + 5], h = s[i + 6], k = s[i + 7];
            d[i] = a, d[i + 1] = b, d[i + 2] = c, d[i + 3] = e;
            d[i + 4] = f, d[i + 5] = g, d[i + 6] = h, d[i + 7] = k;
        }
    }

    abi::CopyChunk* chunks_[abi::kMaxCopyChunks] = {};
    std::uint64_t count_ = 0, used_ = 0;
};

}  // namespace proa::hv
