// A spinlock, and a guard that also keeps this CPU's interrupts masked.
#pragma once
#include <cstdint>

#include "tests/guests/runtime/sysreg.hpp"

namespace guest {

class Spinlock {
  public:
    void lock() {
        while (__atomic_exchange_n(&held_, 1u, __ATOMIC_ACQUIRE) != 0) relax();
    }
    void unlock() { __atomic_store_n(&held_, 0u, __ATOMIC_RELEASE); }

  private:
    std::uint32_t held_ = 0;
};

class IrqGuard {
  public:
    explicit IrqGuard(Spinlock& l) : lock_(l), daif_(READ_REG("daif")) {
        mask_irqs();
        lock_.lock();
    }
    ~IrqGuard() {
        lock_.unlock();
        WRITE_REG("daif", daif_);
    }

  private:
    Spinlock& lock_;
    std::uint64_t daif_;
};

}  // namespace guest
