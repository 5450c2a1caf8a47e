// What BasicStage2 needs at EL2: table memory from the pool, single-copy atomic stores, broadcast TLB maintenance.
#pragma once
#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/mm/pool.hpp"
#include "hypervisor/mm/stage2.hpp"

namespace proa::hv {

class Stage2Env {
  public:
    std::uint64_t* alloc_tables(unsigned order) { return static_cast<std::uint64_t*>(pool().alloc(order)); }
    void free_tables(std::uint64_t* t, unsigned order) { pool().free(t, order); }
    Pa pa(const std::uint64_t* t) const { return pool().pa(t); }
    std::uint64_t* table(Pa p) const { return static_cast<std::uint64_t*>(pool().ptr(p)); }

    void store(std::uint64_t* slot, std::uint64_t v) {
        __atomic_store_n(slot, v, __ATOMIC_RELEASE);
        dsb_ishst();  // visible to the walkers before anything that relies on it
    }
    std::uint64_t exchange(std::uint64_t* slot, std::uint64_t v) {
        const std::uint64_t old = __atomic_exchange_n(slot, v, __ATOMIC_ACQ_REL);
        dsb_ishst();
        return old;
    }
    void put(std::uint64_t* slot, std::uint64_t v) { __atomic_store_n(slot, v, __ATOMIC_RELAXED); }
    std::uint64_t fetch_clear(std::uint64_t* slot, std::uint64_t mask) {
        return __atomic_fetch_and(slot, ~mask, __ATOMIC_RELAXED);
    }
    std::uint64_t fetch_set(std::uint64_t* slot, std::uint64_t mask) {
        return __atomic_fetch_or(slot, mask, __ATOMIC_RELAXED);
    }

    void flush_all(std::uint64_t vttbr) {
        in_vmid(vttbr, [] { asm volatile("tlbi vmalls12e1is\n dsb ish" ::: "memory"); });
    }
    // By IPA, then stage 1: combined entries may hold the old translation (D8.13.5).
    void flush_page(std::uint64_t vttbr, Ipa ipa) {
        in_vmid(vttbr, [ipa] {
            asm volatile("tlbi ipas2e1is, %0\n dsb ish\n tlbi vmalle1is\n dsb ish" ::"r"(ipa.v >> 12)
                         : "memory");
        });
    }
    void flush_page_local(std::uint64_t vttbr, Ipa ipa) {
        in_vmid(vttbr, [ipa] {
            asm volatile("tlbi ipas2e1, %0\n dsb nsh\n tlbi vmalle1\n dsb nsh" ::"r"(ipa.v >> 12) : "memory");
        });
    }

  private:
    // TLBIs act on the current VMID: become it for a moment.
    template <class F>
    void in_vmid(std::uint64_t vttbr, F&& f) {
        const std::uint64_t old = VttbrEl2::read();
        dsb_ish();
        if (old != vttbr) {
            VttbrEl2::write(vttbr);
            isb();
        }
        f();
        if (old != vttbr) VttbrEl2::write(old);
        isb();
    }
};

using Stage2 = BasicStage2<Stage2Env>;

}  // namespace proa::hv
