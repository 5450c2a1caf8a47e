// CPUs: bring-up, exceptions, and a way to survive one's own.
#pragma once
#include <cstdint>

#include "tests/guests/runtime/machine.hpp"
#include "tests/guests/runtime/sysreg.hpp"

namespace guest {

struct Frame {
    std::uint64_t x[31];
    std::uint64_t pc, pstate, reserved;
};

// Number of this CPU in machine().mpidr; Aff0 on the platforms there are (at most 8 CPUs in one cluster).
inline unsigned cpu_index() {
    return static_cast<unsigned>(READ_REG("mpidr_el1") & 7);
}

// What a guest program defines: main on the boot CPU; the others run what start_cpu names.
void guest_main();

// PSCI CPU_ON; the CPU has stack, vectors and MMU, interrupts masked. Returns PSCI's answer.
using CpuMain = void (*)(unsigned cpu);
std::int64_t start_cpu(unsigned cpu, CpuMain main);

using IrqHandler = void (*)(Frame& f);
void on_irq(IrqHandler h);
// A synchronous exception outside of attempt(): true if handled, else the guest says so and powers off.
using FaultHandler = bool (*)(Frame& f);
void on_fault(FaultHandler h);

// Runs f(argument); false if a synchronous exception ended it. Not nested.
bool attempt(void (*f)(void*), void* argument);
std::uint64_t last_syndrome();  // ESR_EL1 of this CPU's last such exception

[[noreturn]] void fail(const char* why);  // prints GUEST PANIC and powers off

}  // namespace guest
