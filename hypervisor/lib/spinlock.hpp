// Ticket spinlock: fair, so a pCPU that spins is served in order. EL2 runs with interrupts masked, so a lock is
// never taken twice by one pCPU through an interrupt. Lock order (outer first):
//   Guest::lock (slot 0 before others) -> Domain::mm_lock -> page pool lock -> log lock
//   Domain::mm_lock -> dispatcher lock (a vCPU that waits for room for a copy)
//   Guest::lock -> Guest::fast_lock -> functions' signal_lock -> GicUnit::lock -> dispatcher lock
//   Guest::lock -> fence lock -> functions' signal_lock
#pragma once
#include <cstdint>

namespace proa::hv {

inline void spin_hint() {
#ifdef __aarch64__
    asm volatile("yield");
#endif
}

class Spinlock {
  public:
    void lock() {
        const std::uint32_t mine = __atomic_fetch_add(&next_, 1u, __ATOMIC_RELAXED);
        while (__atomic_load_n(&owner_, __ATOMIC_ACQUIRE) != mine) spin_hint();
    }
    void unlock() { __atomic_store_n(&owner_, owner_ + 1, __ATOMIC_RELEASE); }

  private:
    std::uint32_t next_ = 0, owner_ = 0;
};

template <class L>
class [[nodiscard]] Guard {
  public:
    explicit Guard(L& lock) : lock_(lock) { lock_.lock(); }
    ~Guard() { lock_.unlock(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

  private:
    L& lock_;
};

}  // namespace proa::hv
