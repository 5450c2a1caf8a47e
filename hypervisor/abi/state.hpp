// Machine state as it crosses the control interface and, inside a stream record, the wire. Field names are
// the architecture's (Arm ARM DDI 0487, GIC IHI 0069). Little endian, no padding, version first.
#pragma once
#include <cstddef>
#include <cstdint>

#include "hypervisor/abi/platform.hpp"

namespace proa::abi {

inline constexpr std::uint32_t kStateVersion = 1;

enum class PowerState : std::uint32_t { Off = 0, On = 1, Suspended = 2 };

// ID registers a guest sees. A host can run a guest if every field the guest was shown is one it can show
// itself; hv/idregs decides per field (unsigned, signed, exact).
struct CpuPolicy {
    std::uint32_t version;  // kStateVersion; 0 in a Create command: "this host's default"
    std::uint32_t reserved0;
    std::uint64_t midr_el1, ctr_el0, dczid_el0, cntfrq_el0;
    std::uint64_t id_aa64pfr0_el1, id_aa64pfr1_el1, id_aa64zfr0_el1, id_aa64smfr0_el1;
    std::uint64_t id_aa64dfr0_el1, id_aa64dfr1_el1;
    std::uint64_t id_aa64isar0_el1, id_aa64isar1_el1, id_aa64isar2_el1;
    std::uint64_t id_aa64mmfr0_el1, id_aa64mmfr1_el1, id_aa64mmfr2_el1;
    std::uint64_t reserved1[7];
};
static_assert(sizeof(CpuPolicy) == 24 * 8);

struct VcpuState {
    std::uint32_t version;  // kStateVersion
    PowerState power;
    std::uint64_t x[31];
    std::uint64_t pc, pstate;
    std::uint64_t sp_el0, sp_el1, elr_el1, spsr_el1;
    std::uint64_t sctlr_el1, cpacr_el1, ttbr0_el1, ttbr1_el1, tcr_el1, mair_el1, amair_el1;
    std::uint64_t esr_el1, far_el1, afsr0_el1, afsr1_el1, par_el1, vbar_el1, contextidr_el1;
    std::uint64_t tpidr_el0, tpidrro_el0, tpidr_el1, csselr_el1, cntkctl_el1, mdscr_el1;
    std::uint64_t actlr_el1, disr_el1;
    std::uint64_t apia[2], apib[2], apda[2], apdb[2], apga[2];  // {lo, hi}
    std::uint64_t fpcr, fpsr;
    // Timers: CVAL in the guest's own counter (CNTVCT for both, the guest's CNTPCT runs with it).
    std::uint64_t cntv_ctl, cntv_cval, cntp_ctl, cntp_cval;
    // GIC CPU interface, architectural ICC_* views.
    std::uint64_t icc_pmr, icc_bpr0, icc_bpr1, icc_ctlr, icc_igrpen0, icc_igrpen1;
    std::uint64_t icc_ap0r[4], icc_ap1r[4];
    std::uint64_t mpidr_el1;
    std::uint64_t reserved[11];
    std::uint64_t v[32][2];  // V0..V31, {low, high}
};
static_assert(sizeof(VcpuState) % 16 == 0);
static_assert(sizeof(VcpuState) == (1 + 31 + 2 + 4 + 7 + 7 + 6 + 2 + 10 + 2 + 4 + 6 + 8 + 1 + 11) * 8 + 512);

// One interrupt. `level` is the input line of a level-sensitive interrupt, `pending` the latch (edge, or
// written through ISPENDR); an interrupt is pending if either is set (IHI 0069, 4.7.2).
struct IrqState {
    enum Flag : std::uint8_t { Enabled = 1, Pending = 2, Level = 4, Active = 8, Group1 = 16, Edge = 32 };
    std::uint8_t flags;
    std::uint8_t priority;
    std::uint16_t target;  // SPIs: vCPU index (affinity routing), 0xffff = 1-of-N; SGI/PPI: 0
};
static_assert(sizeof(IrqState) == 4);

struct GicState {
    std::uint32_t version;  // kStateVersion
    std::uint32_t spi_count;
    std::uint32_t vcpu_count;
    std::uint32_t gicd_ctlr;
    std::uint32_t gicr_waker[kMaxVcpus];
    IrqState privates[kMaxVcpus][32];
    IrqState spis[kMaxSpis];
};
static_assert(sizeof(GicState) == 16 + 4 * kMaxVcpus + 4 * 32 * kMaxVcpus + 4 * kMaxSpis);

// The guest's time: its virtual counter at the moment all vCPUs were stopped. Loading it makes the counter
// go on from there (CNTVOFF_EL2), so the guest sees neither a jump nor a step back.
struct TimeState {
    std::uint32_t version;  // kStateVersion
    std::uint32_t reserved0;
    std::uint64_t virtual_counter, cntfrq;
    std::uint64_t reserved[5];
};
static_assert(sizeof(TimeState) == 64);

// Interrupt status latches (control.hpp): part of the state, for a set bit is an interrupt not yet taken.
struct LatchState {
    std::uint32_t version;
    std::uint32_t count;
    std::uint32_t status[kVirtioSlots];
    std::uint32_t reserved[30];
};
static_assert(sizeof(LatchState) == 256);

}  // namespace proa::abi
