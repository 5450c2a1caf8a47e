#include "vmm/hv/copy_tracker.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace proa::vmm {
namespace {

constexpr std::size_t kKeep = 1024;  // pages of own copies that stay allocated between checkpoints

}  // namespace

CopyTracker::CopyTracker(GuestMemory& memory, std::vector<abi::CopyChunk*> pool)
    : memory_(memory), pool_(std::move(pool)), want_(memory.pages()) {}

void CopyTracker::begin(const dirtylog::Bitmap& held) {
    std::lock_guard lock(mutex_);
    want_.drain([](std::uint64_t, std::uint64_t) {});
    ready_.clear();
    seen_ = 0;
    own_used_ = 0;
    held.for_each([&](std::uint64_t w, std::uint64_t bits) { want_.or_word(w, bits); });
}

void CopyTracker::drain_pool() {
    for (;;) {
        const std::uint64_t chunk = seen_ / abi::kCopiesPerChunk, i = seen_ % abi::kCopiesPerChunk;
        if (chunk >= pool_.size()) return;
        const abi::CopyChunk& c = *pool_[chunk];
        if (__atomic_load_n(&c.published, __ATOMIC_ACQUIRE) <= i) return;
        ++seen_;
        const std::uint64_t page = c.page[i];
        if (page >= memory_.pages() || !want_.test(page))
            continue;  // a device's copy was first, or it was released
        want_.clear(page);
        ready_.push_back({page, c.copy[i]});
    }
}

void CopyTracker::take(const Copied& f) {
    // The caller's reads of live pages come before this look for copies: what it may have read too late has been published.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    std::deque<Ready> batch;
    {
        std::lock_guard lock(mutex_);
        drain_pool();
        batch.swap(ready_);
    }
    for (const Ready& r : batch) f(r.page, {r.bytes, abi::kPageSize});
}

void CopyTracker::before_write(std::uint64_t first_page, std::uint64_t last_page) {
    for (std::uint64_t p = first_page; p <= last_page; ++p)
        if (want_.test(p)) copy_for_device(p);
    // The write comes after all of it: after a copy of ours was noted, and after somebody else's copy, whose bit was clear.
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

// No other device model writes the page meanwhile: it would be here, before its write. A vCPU may: then proa-hv's copy is
// published before the page changes, so that a copy of ours that could be torn is one that finds it when it looks again.
void CopyTracker::copy_for_device(std::uint64_t page) {
    std::lock_guard lock(mutex_);
    if (!want_.test(page)) return;
    if (own_used_ == own_.size()) own_.push_back(std::make_unique<Page>());
    std::uint8_t* to = own_[own_used_]->bytes;
    std::memcpy(to, memory_.page(page).data(), abi::kPageSize);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    drain_pool();
    if (!want_.test(page)) return;
    ++own_used_;
    ++device_copies_;
    want_.clear(page);
    ready_.push_back({page, to});
}

void CopyTracker::forget(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t w = first / 64; w < (last + 63) / 64; ++w) want_.take_word(w);
    ready_.erase(std::remove_if(ready_.begin(), ready_.end(),
                                [&](const Ready& r) { return r.page >= first && r.page < last; }),
                 ready_.end());
}

void CopyTracker::release(std::uint64_t first, std::uint64_t pages) {
    std::lock_guard lock(mutex_);
    forget(first, std::min(first + pages, memory_.pages()));
}

void CopyTracker::release_all() {
    std::lock_guard lock(mutex_);
    want_.drain([](std::uint64_t, std::uint64_t) {});
    ready_.clear();
    own_used_ = 0;
    if (own_.size() > kKeep) own_.resize(kKeep);
}

}  // namespace proa::vmm
