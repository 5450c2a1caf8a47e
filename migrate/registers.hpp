// The system registers of a Machine record, beside their encodings (Arm ARM C5.3, D19; IHI 0069 12.2 for ICC_*): one
// row a register, where it lies in the control ABI's structs. A new row is a new mandatory register.
#pragma once
#include <cstddef>

#include "hypervisor/abi/state.hpp"

namespace proa::migrate {

struct RegisterRow {
    std::uint32_t id;
    std::size_t offset;  // of 64 bits in the struct
    const char* name;
};

constexpr std::uint32_t sysreg(unsigned op0, unsigned op1, unsigned crn, unsigned crm, unsigned op2) {
    return op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}

#define PROA_ROW(type, field, name, op0, op1, crn, crm, op2) \
    { sysreg(op0, op1, crn, crm, op2), offsetof(abi::type, field), name }

// clang-format off
inline constexpr RegisterRow kVcpuRegisters[] = {
    PROA_ROW(VcpuState, sp_el0,         "SP_EL0",          3, 0,  4,  1, 0),
    PROA_ROW(VcpuState, sp_el1,         "SP_EL1",          3, 4,  4,  1, 0),
    PROA_ROW(VcpuState, elr_el1,        "ELR_EL1",         3, 0,  4,  0, 1),
    PROA_ROW(VcpuState, spsr_el1,       "SPSR_EL1",        3, 0,  4,  0, 0),
    PROA_ROW(VcpuState, sctlr_el1,      "SCTLR_EL1",       3, 0,  1,  0, 0),
    PROA_ROW(VcpuState, actlr_el1,      "ACTLR_EL1",       3, 0,  1,  0, 1),
    PROA_ROW(VcpuState, cpacr_el1,      "CPACR_EL1",       3, 0,  1,  0, 2),
    PROA_ROW(VcpuState, ttbr0_el1,      "TTBR0_EL1",       3, 0,  2,  0, 0),
    PROA_ROW(VcpuState, ttbr1_el1,      "TTBR1_EL1",       3, 0,  2,  0, 1),
    PROA_ROW(VcpuState, tcr_el1,        "TCR_EL1",         3, 0,  2,  0, 2),
    PROA_ROW(VcpuState, apia[0],        "APIAKeyLo_EL1",   3, 0,  2,  1, 0),
    PROA_ROW(VcpuState, apia[1],        "APIAKeyHi_EL1",   3, 0,  2,  1, 1),
    PROA_ROW(VcpuState, apib[0],        "APIBKeyLo_EL1",   3, 0,  2,  1, 2),
    PROA_ROW(VcpuState, apib[1],        "APIBKeyHi_EL1",   3, 0,  2,  1, 3),
    PROA_ROW(VcpuState, apda[0],        "APDAKeyLo_EL1",   3, 0,  2,  2, 0),
    PROA_ROW(VcpuState, apda[1],        "APDAKeyHi_EL1",   3, 0,  2,  2, 1),
    PROA_ROW(VcpuState, apdb[0],        "APDBKeyLo_EL1",   3, 0,  2,  2, 2),
    PROA_ROW(VcpuState, apdb[1],        "APDBKeyHi_EL1",   3, 0,  2,  2, 3),
    PROA_ROW(VcpuState, apga[0],        "APGAKeyLo_EL1",   3, 0,  2,  3, 0),
    PROA_ROW(VcpuState, apga[1],        "APGAKeyHi_EL1",   3, 0,  2,  3, 1),
    PROA_ROW(VcpuState, afsr0_el1,      "AFSR0_EL1",       3, 0,  5,  1, 0),
    PROA_ROW(VcpuState, afsr1_el1,      "AFSR1_EL1",       3, 0,  5,  1, 1),
    PROA_ROW(VcpuState, esr_el1,        "ESR_EL1",         3, 0,  5,  2, 0),
    PROA_ROW(VcpuState, far_el1,        "FAR_EL1",         3, 0,  6,  0, 0),
    PROA_ROW(VcpuState, par_el1,        "PAR_EL1",         3, 0,  7,  4, 0),
    PROA_ROW(VcpuState, mair_el1,       "MAIR_EL1",        3, 0, 10,  2, 0),
    PROA_ROW(VcpuState, amair_el1,      "AMAIR_EL1",       3, 0, 10,  3, 0),
    PROA_ROW(VcpuState, vbar_el1,       "VBAR_EL1",        3, 0, 12,  0, 0),
    PROA_ROW(VcpuState, disr_el1,       "DISR_EL1",        3, 0, 12,  1, 1),
    PROA_ROW(VcpuState, contextidr_el1, "CONTEXTIDR_EL1",  3, 0, 13,  0, 1),
    PROA_ROW(VcpuState, tpidr_el1,      "TPIDR_EL1",       3, 0, 13,  0, 4),
    PROA_ROW(VcpuState, tpidr_el0,      "TPIDR_EL0",       3, 3, 13,  0, 2),
    PROA_ROW(VcpuState, tpidrro_el0,    "TPIDRRO_EL0",     3, 3, 13,  0, 3),
    PROA_ROW(VcpuState, csselr_el1,     "CSSELR_EL1",      3, 2,  0,  0, 0),
    PROA_ROW(VcpuState, cntkctl_el1,    "CNTKCTL_EL1",     3, 0, 14,  1, 0),
    PROA_ROW(VcpuState, cntp_ctl,       "CNTP_CTL_EL0",    3, 3, 14,  2, 1),
    PROA_ROW(VcpuState, cntp_cval,      "CNTP_CVAL_EL0",   3, 3, 14,  2, 2),
    PROA_ROW(VcpuState, cntv_ctl,       "CNTV_CTL_EL0",    3, 3, 14,  3, 1),
    PROA_ROW(VcpuState, cntv_cval,      "CNTV_CVAL_EL0",   3, 3, 14,  3, 2),
    PROA_ROW(VcpuState, mdscr_el1,      "MDSCR_EL1",       2, 0,  0,  2, 2),
    PROA_ROW(VcpuState, fpcr,           "FPCR",            3, 3,  4,  4, 0),
    PROA_ROW(VcpuState, fpsr,           "FPSR",            3, 3,  4,  4, 1),
    PROA_ROW(VcpuState, mpidr_el1,      "MPIDR_EL1",       3, 0,  0,  0, 5),
    PROA_ROW(VcpuState, icc_pmr,        "ICC_PMR_EL1",     3, 0,  4,  6, 0),
    PROA_ROW(VcpuState, icc_bpr0,       "ICC_BPR0_EL1",    3, 0, 12,  8, 3),
    PROA_ROW(VcpuState, icc_ap0r[0],    "ICC_AP0R0_EL1",   3, 0, 12,  8, 4),
    PROA_ROW(VcpuState, icc_ap0r[1],    "ICC_AP0R1_EL1",   3, 0, 12,  8, 5),
    PROA_ROW(VcpuState, icc_ap0r[2],    "ICC_AP0R2_EL1",   3, 0, 12,  8, 6),
    PROA_ROW(VcpuState, icc_ap0r[3],    "ICC_AP0R3_EL1",   3, 0, 12,  8, 7),
    PROA_ROW(VcpuState, icc_ap1r[0],    "ICC_AP1R0_EL1",   3, 0, 12,  9, 0),
    PROA_ROW(VcpuState, icc_ap1r[1],    "ICC_AP1R1_EL1",   3, 0, 12,  9, 1),
    PROA_ROW(VcpuState, icc_ap1r[2],    "ICC_AP1R2_EL1",   3, 0, 12,  9, 2),
    PROA_ROW(VcpuState, icc_ap1r[3],    "ICC_AP1R3_EL1",   3, 0, 12,  9, 3),
    PROA_ROW(VcpuState, icc_bpr1,       "ICC_BPR1_EL1",    3, 0, 12, 12, 3),
    PROA_ROW(VcpuState, icc_ctlr,       "ICC_CTLR_EL1",    3, 0, 12, 12, 4),
    PROA_ROW(VcpuState, icc_igrpen0,    "ICC_IGRPEN0_EL1", 3, 0, 12, 12, 6),
    PROA_ROW(VcpuState, icc_igrpen1,    "ICC_IGRPEN1_EL1", 3, 0, 12, 12, 7),
};

inline constexpr RegisterRow kPolicyRegisters[] = {
    PROA_ROW(CpuPolicy, midr_el1,         "MIDR_EL1",         3, 0,  0, 0, 0),
    PROA_ROW(CpuPolicy, ctr_el0,          "CTR_EL0",          3, 3,  0, 0, 1),
    PROA_ROW(CpuPolicy, dczid_el0,        "DCZID_EL0",        3, 3,  0, 0, 7),
    PROA_ROW(CpuPolicy, cntfrq_el0,       "CNTFRQ_EL0",       3, 3, 14, 0, 0),
    PROA_ROW(CpuPolicy, id_aa64pfr0_el1,  "ID_AA64PFR0_EL1",  3, 0,  0, 4, 0),
    PROA_ROW(CpuPolicy, id_aa64pfr1_el1,  "ID_AA64PFR1_EL1",  3, 0,  0, 4, 1),
    PROA_ROW(CpuPolicy, id_aa64zfr0_el1,  "ID_AA64ZFR0_EL1",  3, 0,  0, 4, 4),
    PROA_ROW(CpuPolicy, id_aa64smfr0_el1, "ID_AA64SMFR0_EL1", 3, 0,  0, 4, 5),
    PROA_ROW(CpuPolicy, id_aa64dfr0_el1,  "ID_AA64DFR0_EL1",  3, 0,  0, 5, 0),
    PROA_ROW(CpuPolicy, id_aa64dfr1_el1,  "ID_AA64DFR1_EL1",  3, 0,  0, 5, 1),
    PROA_ROW(CpuPolicy, id_aa64isar0_el1, "ID_AA64ISAR0_EL1", 3, 0,  0, 6, 0),
    PROA_ROW(CpuPolicy, id_aa64isar1_el1, "ID_AA64ISAR1_EL1", 3, 0,  0, 6, 1),
    PROA_ROW(CpuPolicy, id_aa64isar2_el1, "ID_AA64ISAR2_EL1", 3, 0,  0, 6, 2),
    PROA_ROW(CpuPolicy, id_aa64mmfr0_el1, "ID_AA64MMFR0_EL1", 3, 0,  0, 7, 0),
    PROA_ROW(CpuPolicy, id_aa64mmfr1_el1, "ID_AA64MMFR1_EL1", 3, 0,  0, 7, 1),
    PROA_ROW(CpuPolicy, id_aa64mmfr2_el1, "ID_AA64MMFR2_EL1", 3, 0,  0, 7, 2),
};
// clang-format on
#undef PROA_ROW

// A field added to the ABI's structs must get a row (or a field of its own in stream.proto) before it can move.
static_assert(sizeof(kPolicyRegisters) / sizeof(RegisterRow) * 8 + 8 + sizeof(abi::CpuPolicy::reserved1) ==
              sizeof(abi::CpuPolicy));
static_assert(sizeof(kVcpuRegisters) / sizeof(RegisterRow) * 8 + 8 + sizeof(abi::VcpuState::x) + 2 * 8 +
                  sizeof(abi::VcpuState::reserved) + sizeof(abi::VcpuState::v) ==
              sizeof(abi::VcpuState));

}  // namespace proa::migrate
