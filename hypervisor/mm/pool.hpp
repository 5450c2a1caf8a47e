// The one page pool of this host (VA = PA at EL2), and typed objects from it.
#pragma once
#include <new>
#include <utility>

#include "hypervisor/lib/spinlock.hpp"
#include "hypervisor/mm/page_pool.hpp"

namespace proa::hv {

using PagePool = BuddyPool<Spinlock>;
PagePool& pool();

constexpr unsigned order_of(std::uint64_t bytes) {
    unsigned order = 0;
    while ((kPage << order) < bytes) ++order;
    return order;
}

// One object, or an array's worth of bytes, in pages of its own; null if the pool is empty.
template <class T, class... A>
T* pool_new(A&&... args) {
    void* p = pool().alloc(order_of(sizeof(T)));
    return p == nullptr ? nullptr : new (p) T(std::forward<A>(args)...);
}
template <class T>
void pool_delete(T* p) {
    if (p == nullptr) return;
    p->~T();
    pool().free(p, order_of(sizeof(T)));
}

}  // namespace proa::hv
