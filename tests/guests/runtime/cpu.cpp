#include "tests/guests/runtime/cpu.hpp"

#include "tests/guests/runtime/console.hpp"
#include "tests/guests/runtime/psci.hpp"

namespace guest {

struct Escape {
    std::uint64_t sp;
};
extern "C" std::uint64_t guarded(Escape* e, void (*f)(void*), void* argument);
extern "C" char escape[], secondary_entry[];

namespace {

struct alignas(64) PerCpu {
    Escape escape{};
    std::uint64_t syndrome = 0;
    CpuMain main = nullptr;
};
PerCpu per_cpu[kMaxCpus];
IrqHandler irq_handler;
FaultHandler fault_handler;

enum Kind : unsigned { kSync = 4, kIrq = 5 };

}  // namespace

std::int64_t start_cpu(unsigned cpu, CpuMain main) {
    per_cpu[cpu].main = main;
    dsb();
    return psci(kCpuOn, machine().mpidr[cpu], reinterpret_cast<std::uint64_t>(secondary_entry), cpu);
}

void on_irq(IrqHandler h) {
    irq_handler = h;
}
void on_fault(FaultHandler h) {
    fault_handler = h;
}

bool attempt(void (*f)(void*), void* argument) {
    return guarded(&per_cpu[cpu_index()].escape, f, argument) == 0;
}
std::uint64_t last_syndrome() {
    return per_cpu[cpu_index()].syndrome;
}

void fail(const char* why) {
    print("GUEST PANIC cpu={} {}", cpu_index(), why);
    power_off();
}

extern "C" void on_exception(unsigned kind, Frame* f) {
    if (kind == kIrq && irq_handler != nullptr) return irq_handler(*f);
    PerCpu& self = per_cpu[cpu_index()];
    self.syndrome = READ_REG("esr_el1");
    if (self.escape.sp != 0) {
        f->x[0] = reinterpret_cast<std::uint64_t>(&self.escape);
        f->pc = reinterpret_cast<std::uint64_t>(escape);
        f->pstate = 0x3c5;  // EL1h, all masked
        return;
    }
    if (kind == kSync && fault_handler != nullptr && fault_handler(*f)) return;
    print("GUEST PANIC cpu={} exception {} ESR {x} FAR {x} PC {x}", cpu_index(), kind, self.syndrome,
          READ_REG("far_el1"), f->pc);
    power_off();
}

extern "C" void boot_main(const void* tree) {
    console_init();
    if (!read_machine(tree)) fail("no device tree in x0");
    guest_main();
    power_off();
}

extern "C" void secondary_main(unsigned cpu) {
    per_cpu[cpu].main(cpu);
    for (;;) psci(kCpuOff);
}

}  // namespace guest
