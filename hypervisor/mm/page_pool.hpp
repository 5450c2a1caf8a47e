// proa-hv's own memory: a buddy allocator over one physical range, pages zeroed when handed out. Everything proa-hv
// needs after boot comes from here; a guest's share is returned when it is destroyed. Thread safe through Lock.
#pragma once
#include <cstddef>
#include <cstdint>

#include "hypervisor/mm/address.hpp"

namespace proa::hv {

template <class Lock>
class BuddyPool {
  public:
    static constexpr unsigned kMaxOrder = 10;  // 4 MiB

    // `memory` (page aligned, `bytes` a multiple of the page) becomes the pool's; `at` is its physical address.
    // The allocator's own map takes the first pages of it.
    void init(void* memory, Pa at, std::uint64_t bytes) {
        base_ = static_cast<std::uint8_t*>(memory);
        at_ = at;
        pages_ = bytes / kPage;
        order_ = base_;
        const std::uint64_t map_pages = (pages_ + kPage - 1) / kPage;
        for (std::uint64_t i = 0; i < pages_; ++i) order_[i] = kUsed;
        for (auto& head : free_) head = nullptr;
        total_ = pages_ - map_pages;
        available_ = 0;
        for (std::uint64_t p = map_pages; p < pages_;) {
            unsigned order = kMaxOrder;
            while (order > 0 && ((p & ((1ull << order) - 1)) != 0 || p + (1ull << order) > pages_)) --order;
            push(p, order);
            available_ += 1ull << order;
            p += 1ull << order;
        }
    }

    // 2^order pages, zeroed, aligned to their size within the pool; null if there are none.
    void* alloc(unsigned order = 0) {
        std::uint64_t page;
        {
            lock_.lock();
            unsigned o = order;
            while (o <= kMaxOrder && free_[o] == nullptr) ++o;
            if (o > kMaxOrder) {
                lock_.unlock();
                return nullptr;
            }
            page = pop(o);
            while (o > order) {
                --o;
                push(page + (1ull << o), o);
            }
            available_ -= 1ull << order;
            lock_.unlock();
        }
        auto* p = reinterpret_cast<std::uint64_t*>(base_ + page * kPage);
        for (std::uint64_t i = 0; i < (kPage << order) / 8; ++i) p[i] = 0;
        return p;
    }

    void free(void* memory, unsigned order = 0) {
        std::uint64_t page = static_cast<std::uint64_t>(static_cast<std::uint8_t*>(memory) - base_) / kPage;
        lock_.lock();
        available_ += 1ull << order;
        while (order < kMaxOrder) {
            const std::uint64_t buddy = page ^ (1ull << order);
            if (buddy + (1ull << order) > pages_ || order_[buddy] != order) break;
            unlink(buddy, order);
            page &= ~(1ull << order);
            ++order;
        }
        push(page, order);
        lock_.unlock();
    }

    Pa pa(const void* p) const {
        return at_ + static_cast<std::uint64_t>(static_cast<const std::uint8_t*>(p) - base_);
    }
    void* ptr(Pa p) const { return base_ + (p - at_); }
    std::uint64_t total() const { return total_; }
    std::uint64_t available() const { return available_; }

  private:
    static constexpr std::uint8_t kUsed = 0xff;
    struct Node {
        Node *next, *prev;
    };
    Node* node(std::uint64_t page) { return reinterpret_cast<Node*>(base_ + page * kPage); }
    void push(std::uint64_t page, unsigned order) {
        Node* n = node(page);
        n->next = free_[order];
        n->prev = nullptr;
        if (n->next != nullptr) n->next->prev = n;
        free_[order] = n;
        order_[page] = static_cast<std::uint8_t>(order);
    }
    void unlink(std::uint64_t page, unsigned order) {
        Node* n = node(page);
        if (n->prev != nullptr)
            n->prev->next = n->next;
        else
            free_[order] = n->next;
        if (n->next != nullptr) n->next->prev = n->prev;
        order_[page] = kUsed;
    }
    std::uint64_t pop(unsigned order) {
        const std::uint64_t page =
            static_cast<std::uint64_t>(reinterpret_cast<std::uint8_t*>(free_[order]) - base_) / kPage;
        unlink(page, order);
        return page;
    }

    Lock lock_{};
    std::uint8_t* base_ = nullptr;
    Pa at_;
    std::uint64_t pages_ = 0, total_ = 0, available_ = 0;
    std::uint8_t* order_ = nullptr;  // of the free block that starts at a page; kUsed otherwise
    Node* free_[kMaxOrder + 1] = {};
};

}  // namespace proa::hv
