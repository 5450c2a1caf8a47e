// Moves vCPUs onto and off physical CPUs: the edge of the scheduler. One lock covers the run queues, every vCPU's
// `reasons` and the timer list.
#pragma once
#include <cstdint>

#include "hypervisor/arch/gic.hpp"
#include "hypervisor/arch/pcpu.hpp"
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

void dispatcher_init(Pcpu* const* pcpus, unsigned count, PhysGic& gic);
PhysGic& phys_gic();
unsigned pcpu_count();
Pcpu& pcpu(unsigned id);

// This pCPU's EL2 registers that never change again, and its list registers' number.
void dispatcher_init_cpu(Pcpu& self);

// --- called from any pCPU ---------------------------------------------------------------------------------------
void block(Vcpu& v, Vcpu::Reason why);
void unblock(Vcpu& v, Vcpu::Reason why);
bool sleep_until_interrupt(Vcpu& v);  // WFI; false: an interrupt came meanwhile, don't
void kick_gic(GicUnit& gic);          // acts on Vgic::take_kicks(); gic.lock not held
bool is_quiet(
    const Vcpu& v);  // not running, its registers are in memory (asks the pCPU that has them to let go)
void set_affinity(Vcpu& v, std::uint64_t pcpus);
void set_weight(Vcpu& v, std::uint32_t weight);
void set_throttle(Vcpu& v, unsigned percent);
std::uint32_t run_state(const Vcpu& v);  // abi::VcpuStats::state

// --- called on the pCPU itself ------------------------------------------------------------------------------------
void gic_sync(Vcpu& v);    // list registers -> Vgic, if v is loaded here and not synced yet
void handle_interrupts();  // acknowledges and dispatches what is pending
void leave_hypervisor();   // picks a vCPU (idling until there is one), loads it, arms the timer
void retime(Vcpu& v);      // the current vCPU's emulated timer changed

}  // namespace proa::hv
