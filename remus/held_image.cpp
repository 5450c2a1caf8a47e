#include "remus/held_image.hpp"

#include <bit>
#include <cstring>

#include "remus/pages.hpp"

namespace proa::remus {

HeldImage::HeldImage(vmm::GuestMemory& memory, vmm::Checkpointer& checkpoints)
    : memory_(memory), checkpoints_(checkpoints), unread_(memory.pages() / 64) {}

void HeldImage::begin(std::vector<std::uint64_t> words) {
    std::lock_guard lock(mutex_);
    words_ = std::move(words);
    words_.resize(unread_.size());
    for (std::size_t w = 0; w < words_.size(); ++w) __atomic_store_n(&unread_[w], words_[w], __ATOMIC_RELAXED);
    by_vcpu_.clear();
    by_device_.clear();
    copied_ = 0;
}

void HeldImage::absorb() {
    checkpoints_.take_copies([this](std::uint64_t page, std::span<const std::uint8_t> bytes) {
        by_vcpu_[page] = bytes;
        ++copied_;
    });
}

void HeldImage::read(std::uint64_t word, std::span<std::uint8_t> to) {
    for (std::uint64_t bits = words_[word]; bits != 0; bits &= bits - 1) {
        const auto i = static_cast<std::uint64_t>(std::countr_zero(bits));
        std::memcpy(to.data() + i * kPageBytes, memory_.page(word * 64 + i).data(), kPageBytes);
    }
    std::lock_guard lock(mutex_);
    absorb();  // after the reads: who has written one of these pages by now has left its copy
    for (std::uint64_t bits = words_[word]; bits != 0; bits &= bits - 1) {
        const auto i = static_cast<std::uint64_t>(std::countr_zero(bits));
        const std::uint64_t page = word * 64 + i;
        if (const auto d = by_device_.find(page); d != by_device_.end())
            std::memcpy(to.data() + i * kPageBytes, d->second.data(), kPageBytes);
        else if (const auto v = by_vcpu_.find(page); v != by_vcpu_.end())
            std::memcpy(to.data() + i * kPageBytes, v->second.data(), kPageBytes);
    }
    __atomic_store_n(&unread_[word], 0, __ATOMIC_RELAXED);
}

void HeldImage::end() {
    std::lock_guard lock(mutex_);
    absorb();
    for (auto& w : unread_) __atomic_store_n(&w, 0, __ATOMIC_RELAXED);
    by_vcpu_.clear();
    by_device_.clear();
}

std::uint64_t HeldImage::copied() const {
    std::lock_guard lock(mutex_);
    return copied_;
}

void HeldImage::before_write(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t page = first; page <= last; ++page) {
        const std::uint64_t bit = 1ull << page % 64;
        if ((__atomic_load_n(&unread_[page / 64], __ATOMIC_RELAXED) & bit) == 0) continue;
        std::lock_guard lock(mutex_);
        if ((__atomic_load_n(&unread_[page / 64], __ATOMIC_RELAXED) & bit) == 0) continue;  // read meanwhile
        if (by_device_.contains(page)) continue;
        const auto live = memory_.page(page);
        std::vector<std::uint8_t> copy(live.begin(), live.end());
        absorb();
        if (by_vcpu_.contains(page)) continue;
        by_device_.emplace(page, std::move(copy));
        ++copied_;
    }
}

}  // namespace proa::remus
