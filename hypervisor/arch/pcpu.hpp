// What belongs to one physical CPU. TPIDR_EL2 points to it; vectors.S and head.S know the first four fields.
#pragma once
#include <cstddef>
#include <cstdint>

#include "hypervisor/arch/context.hpp"
#include "hypervisor/arch/sysreg.hpp"

namespace proa::hv {

class Vcpu;

struct Pcpu {
    TrapFrame* frame = nullptr;         // of `current`: where the vectors save to and restore from
    std::uint64_t emergency_stack = 0;  // for a fault in EL2 itself
    std::uint64_t stack_top = 0;
    std::uint64_t ttbr0 = 0;

    unsigned id = 0;
    std::uint64_t mpidr = 0, redistributor = 0;
    Vcpu* current = nullptr;  // returned to at the end of this exit; null while idle
    Vcpu* loaded = nullptr;   // whose EL1 and GIC state is in the registers; may outlive `current` while idle
    bool online = false;
    std::uint32_t resched = 0;  // set by others together with a kick
    std::uint64_t slice_end = ~0ull;
    std::uint64_t last_switch = 0;  // counter when `current` (or idling) began
    // Statistics, written by this CPU only.
    std::uint64_t busy_ticks = 0, idle_ticks = 0, switches = 0, exits = 0, ipis = 0, interrupts = 0;

    static Pcpu& self() { return *reinterpret_cast<Pcpu*>(TpidrEl2::read()); }
};
static_assert(offsetof(Pcpu, emergency_stack) == 8 && offsetof(Pcpu, stack_top) == 16 &&
              offsetof(Pcpu, ttbr0) == 24);

}  // namespace proa::hv
