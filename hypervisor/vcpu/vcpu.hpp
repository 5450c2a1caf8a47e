// A virtual CPU: its registers while it isn't loaded on a pCPU, and why it doesn't run. Who may touch what:
// register state belongs to the pCPU in `loaded_on`, or to whoever holds the domain paused; `reasons`, `node` and
// the timer list belong to the dispatcher's lock.
#pragma once
#include <cstdint>

#include "hypervisor/abi/control.hpp"
#include "hypervisor/arch/context.hpp"
#include "hypervisor/arch/el1_context.hpp"
#include "hypervisor/arch/pcpu.hpp"
#include "hypervisor/lib/spinlock.hpp"
#include "hypervisor/mm/write_around.hpp"
#include "hypervisor/vcpu/sched_node.hpp"
#include "hypervisor/vgic/vgic.hpp"

namespace proa::hv {

class Domain;
class Vcpu;

// A domain's interrupt controller, its lock, and whom its interrupts wake.
struct GicUnit {
    Spinlock lock;
    Vgic vgic;
    Vcpu* vcpus = nullptr;
    unsigned count = 0;
};

// The virtual CPU interface that is not list registers: ICH_VMCR_EL2 and the active priorities.
struct GicCpuState {
    std::uint64_t vmcr = 0, ap0r[4] = {}, ap1r[4] = {};
    void save();
    void load() const;
    void export_to(abi::VcpuState& s) const;
    void import_from(const abi::VcpuState& s);
};

// The emulated EL1 physical timer (guests); compare values in the guest's counter.
struct PhysicalTimer {
    std::uint64_t ctl = 0, cval = 0;
    bool enabled() const { return (ctl & cnt_ctl::ENABLE) != 0; }
    bool asserted(std::uint64_t guest_now) const {
        return (ctl & (cnt_ctl::ENABLE | cnt_ctl::IMASK)) == cnt_ctl::ENABLE && guest_now >= cval;
    }
};

class Vcpu {
  public:
    // CopyWait: its write to a held page found the copy pool full. Taking it away is always safe: it writes again.
    enum Reason : std::uint32_t { Off = 1, Paused = 2, Wfi = 4, Exit = 8, CopyWait = 16 };

    TrapFrame frame{};
    El1Context el1;
    FpContext fp{};
    LrFile lrs;
    GicCpuState gic_cpu;
    PhysicalTimer ptimer;

    Domain* domain = nullptr;
    GicUnit* gic = nullptr;
    unsigned index = 0;
    bool control = false;
    std::uint64_t hcr = 0, vttbr = 0, vmpidr = 0, vpidr = 0;
    std::uint64_t cntvoff = 0;  // physical counter - guest counter; the same for all vCPUs of a domain

    SchedNode node;
    std::uint32_t reasons = Off | Paused;  // runnable when 0
    bool kicked = false;                   // an interrupt came since the last sync: don't fall asleep
    bool gic_synced = false;               // list registers were folded back; flush before entry
    Pcpu* loaded_on = nullptr;
    std::uint64_t wake_at = ~0ull;  // physical counter; ~0: no timer runs
    Pcpu* timer_on = nullptr;       // whose CNTHP covers wake_at
    Vcpu* next_timer = nullptr;

    WriteAround write_around;

    std::uint64_t exits[static_cast<unsigned>(abi::ExitKind::Count)] = {};
    std::uint64_t run_ticks = 0;

    void reset(std::uint64_t entry, std::uint64_t argument);  // registers to power-on (PSCI 6.4: EL1h, MMU off)
    void count(abi::ExitKind k) { ++exits[static_cast<unsigned>(k)]; }

    void advance_pc() { frame.pc += 4; }
    std::uint64_t reg(unsigned n) const { return n == 31 ? 0 : frame.x[n]; }
    void set_reg(unsigned n, std::uint64_t v) {
        if (n != 31) frame.x[n] = v;
    }

    void export_to(abi::VcpuState& s) const;
    bool import_from(const abi::VcpuState& s);  // false: not a state an EL1 guest can be in

    // The earliest moment (physical counter) a timer of this vCPU, not loaded, fires; ~0: none.
    std::uint64_t next_deadline() const;
};

// Exceptions into EL1 of a loaded vCPU (its EL1 registers are in hardware). D1.3.
void inject_undefined(Vcpu& v);
void inject_external_abort(Vcpu& v, bool instruction, std::uint64_t far);

}  // namespace proa::hv
