#include "remus/page_cache.hpp"

#include <algorithm>
#include <cstring>

#include "remus/pages.hpp"

namespace proa::remus {

PageCache::PageCache(std::uint64_t pages, std::uint64_t bytes)
    : sets_(std::min((pages + kWays - 1) / kWays, bytes / (kPageBytes * kWays))),
      slots_(sets_ * kWays),
      bytes_(new std::uint8_t[slots_.size() * kPageBytes]) {}

std::uint8_t* PageCache::bytes_of(const Slot* s) {
    return bytes_.get() + static_cast<std::size_t>(s - slots_.data()) * kPageBytes;
}

PageCache::Slot* PageCache::slot_of(std::uint64_t page) {
    if (sets_ == 0) return nullptr;
    Slot *const set = set_of(page), *const end = set + kWays;
    Slot* const s = std::find_if(set, end, [page](const Slot& x) { return x.page == page; });
    return s == end ? nullptr : s;
}

const std::uint8_t* PageCache::find(std::uint64_t page) {
    Slot* const s = slot_of(page);
    if (s == nullptr) return nullptr;
    s->sent = checkpoint_;
    return bytes_of(s);
}

void PageCache::put(std::uint64_t page, const std::uint8_t* bytes) {
    if (sets_ == 0) return;
    Slot* s = slot_of(page);
    if (s == nullptr) {
        const auto older = [](const Slot& a, const Slot& b) { return a.sent < b.sent; };
        s = std::min_element(set_of(page), set_of(page) + kWays, older);
        if (s->page != kNone && checkpoint_ - s->sent < kStaysFor) return;
    }
    *s = {page, checkpoint_};
    std::memcpy(bytes_of(s), bytes, kPageBytes);
}

void PageCache::drop(std::uint64_t page) {
    if (Slot* const s = slot_of(page)) *s = {};
}

void PageCache::clear() {
    std::fill(slots_.begin(), slots_.end(), Slot{});
}

}  // namespace proa::remus
