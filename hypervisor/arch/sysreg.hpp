// System registers as types: Reg::read(), Reg{value}.write(). Bits are named beside the register, in the order of
// Arm ARM DDI 0487 D19. Encodings in S<op0>_<op1>_C<n>_C<m>_<op2> form are used where the assembler would
// otherwise want a newer -march than the Armv8.0 baseline proa-hv runs on.
#pragma once
#include <cstdint>

#define PROA_SYSREG(Type, name)                                                                      \
    struct Type {                                                                                    \
        std::uint64_t raw;                                                                           \
        static std::uint64_t read() {                                                                \
            std::uint64_t v;                                                                         \
            asm volatile("mrs %0, " name : "=r"(v)::"memory");                                       \
            return v;                                                                                \
        }                                                                                            \
        static void write(std::uint64_t v) { asm volatile("msr " name ", %0" ::"r"(v) : "memory"); } \
    }

namespace proa::hv {

constexpr std::uint64_t bit(unsigned n) {
    return 1ull << n;
}
constexpr std::uint64_t field(std::uint64_t value, unsigned shift, unsigned width) {
    return value >> shift & (bit(width) - 1);
}

// --- EL2 configuration -------------------------------------------------------------------------------------
PROA_SYSREG(HcrEl2, "hcr_el2");
namespace hcr {  // D19.2.48
inline constexpr std::uint64_t VM = bit(0), SWIO = bit(1), FMO = bit(3), IMO = bit(4), AMO = bit(5),
                               FB = bit(9), BSU_IS = bit(10), TWI = bit(13), TWE = bit(14), TID3 = bit(18),
                               TSC = bit(19), TIDCP = bit(20), TACR = bit(21), RW = bit(31), TLOR = bit(35),
                               TERR = bit(36), APK = bit(40), API = bit(41);
// Every domain: stage 2 on, interrupts to EL2, WFI, SMC, ID registers and IMPDEF registers trapped, pointer
// authentication left to EL1. No EnSCXT, no ATA: SCXTNUM and MTE are hidden by the CPU policy; and what it hides but would
// be there is trapped, LORegions (TLOR) and the RAS error records (TERR): neither is saved, both are the pCPU's.
inline constexpr std::uint64_t kDomain =
    RW | VM | SWIO | FMO | IMO | AMO | TWI | TSC | TID3 | TIDCP | TACR | TLOR | TERR | APK | API;
// A guest's vCPUs move between pCPUs: what it believes to be local maintenance and barriers must reach all of them.
inline constexpr std::uint64_t kGuest = kDomain | FB | BSU_IS;
}  // namespace hcr

PROA_SYSREG(VtcrEl2, "vtcr_el2");
namespace vtcr {  // D19.2.160; bit 31 is RES1
inline constexpr std::uint64_t IRGN0_WBWA = 1ull << 8, ORGN0_WBWA = 1ull << 10, SH0_INNER = 3ull << 12,
                               TG0_4K = 0, HA = bit(21), HD = bit(22), RES1 = bit(31);
constexpr std::uint64_t t0sz(unsigned ipa_bits) {
    return 64 - ipa_bits;
}
constexpr std::uint64_t start_level_1 = 1ull << 6;  // SL0 = 1, 4 KiB granule
constexpr std::uint64_t ps(std::uint64_t parange) {
    return parange << 16;
}
}  // namespace vtcr
PROA_SYSREG(VttbrEl2, "vttbr_el2");
namespace vttbr {
constexpr std::uint64_t vmid(std::uint64_t id) {
    return id << 48;
}
}  // namespace vttbr

PROA_SYSREG(SctlrEl2, "sctlr_el2");
namespace sctlr2 {  // D19.2.119, HCR_EL2.E2H = 0
inline constexpr std::uint64_t M = bit(0), A = bit(1), C = bit(2), SA = bit(3), I = bit(12), WXN = bit(19);
inline constexpr std::uint64_t RES1 =
    bit(4) | bit(5) | bit(11) | bit(16) | bit(18) | bit(22) | bit(23) | bit(28) | bit(29);
inline constexpr std::uint64_t kMmuOn = RES1 | M | C | I | SA | WXN;
}  // namespace sctlr2
PROA_SYSREG(TcrEl2, "tcr_el2");
namespace tcr2 {  // D19.2.138, E2H = 0
inline constexpr std::uint64_t RES1 = bit(31) | bit(23), IRGN0_WBWA = 1ull << 8, ORGN0_WBWA = 1ull << 10,
                               SH0_INNER = 3ull << 12;
constexpr std::uint64_t t0sz(unsigned va_bits) {
    return 64 - va_bits;
}
constexpr std::uint64_t ps(std::uint64_t parange) {
    return parange << 16;
}
}  // namespace tcr2
PROA_SYSREG(MairEl2, "mair_el2");
PROA_SYSREG(Ttbr0El2, "ttbr0_el2");
PROA_SYSREG(VbarEl2, "vbar_el2");
PROA_SYSREG(TpidrEl2, "tpidr_el2");
PROA_SYSREG(EsrEl2, "esr_el2");
PROA_SYSREG(FarEl2, "far_el2");
PROA_SYSREG(HpfarEl2, "hpfar_el2");
PROA_SYSREG(ElrEl2, "elr_el2");
PROA_SYSREG(SpsrEl2, "spsr_el2");
PROA_SYSREG(VpidrEl2, "vpidr_el2");
PROA_SYSREG(VmpidrEl2, "vmpidr_el2");
PROA_SYSREG(HstrEl2, "hstr_el2");

PROA_SYSREG(CptrEl2, "cptr_el2");
namespace cptr {  // D19.2.32, E2H = 0: bits that are RES1 without the feature trap it with the feature
inline constexpr std::uint64_t RES1 = bit(13) | bit(9) | 0xff, TZ = bit(8), TSM = bit(12), TFP = bit(10),
                               TAM = bit(30);
inline constexpr std::uint64_t kDomain =
    RES1 | TZ | TSM | TAM;  // FP allowed; SVE, SME and AMU trapped (hidden)
}  // namespace cptr
PROA_SYSREG(PmcrEl0, "pmcr_el0");
PROA_SYSREG(MdcrEl2, "mdcr_el2");
namespace mdcr {  // D19.3.16
inline constexpr std::uint64_t TPM = bit(6), TDE = bit(8), TDA = bit(9), TDOSA = bit(10), TDRA = bit(11),
                               TPMS = bit(14), TTRF = bit(19);
inline constexpr std::uint64_t kDomain = TPM | TDA | TDOSA | TDRA | TPMS | TTRF;
}  // namespace mdcr

PROA_SYSREG(CnthctlEl2, "cnthctl_el2");
namespace cnthctl {  // D19.12.3, E2H = 0
inline constexpr std::uint64_t EL1PCTEN = bit(0), EL1PCEN = bit(1);
}
PROA_SYSREG(CntvoffEl2, "cntvoff_el2");
PROA_SYSREG(CnthpCtlEl2, "cnthp_ctl_el2");
PROA_SYSREG(CnthpCvalEl2, "cnthp_cval_el2");
PROA_SYSREG(CntpctEl0, "cntpct_el0");
PROA_SYSREG(CntfrqEl0, "cntfrq_el0");
namespace cnt_ctl {
inline constexpr std::uint64_t ENABLE = bit(0), IMASK = bit(1), ISTATUS = bit(2);
}

// --- EL1 and EL0 state of the current vCPU ---------------------------------------------------------------
PROA_SYSREG(SctlrEl1, "sctlr_el1");
namespace sctlr1 {
inline constexpr std::uint64_t SPAN = bit(23), DSSBS = bit(44), EE = bit(25);
// Reset: MMU and caches off, RES1 bits of Armv8.0 set (LSMAOE, nTLSMD, SPAN, EIS, EOS, TSCXT).
inline constexpr std::uint64_t kReset = bit(29) | bit(28) | bit(23) | bit(22) | bit(20) | bit(11);
}  // namespace sctlr1
PROA_SYSREG(CpacrEl1, "cpacr_el1");
PROA_SYSREG(Ttbr0El1, "ttbr0_el1");
PROA_SYSREG(Ttbr1El1, "ttbr1_el1");
PROA_SYSREG(TcrEl1, "tcr_el1");
PROA_SYSREG(MairEl1, "mair_el1");
PROA_SYSREG(AmairEl1, "amair_el1");
PROA_SYSREG(EsrEl1, "esr_el1");
PROA_SYSREG(FarEl1, "far_el1");
PROA_SYSREG(Afsr0El1, "afsr0_el1");
PROA_SYSREG(Afsr1El1, "afsr1_el1");
PROA_SYSREG(ParEl1, "par_el1");
PROA_SYSREG(VbarEl1, "vbar_el1");
PROA_SYSREG(ContextidrEl1, "contextidr_el1");
PROA_SYSREG(TpidrEl0, "tpidr_el0");
PROA_SYSREG(TpidrroEl0, "tpidrro_el0");
PROA_SYSREG(TpidrEl1, "tpidr_el1");
PROA_SYSREG(CsselrEl1, "csselr_el1");
PROA_SYSREG(CntkctlEl1, "cntkctl_el1");
PROA_SYSREG(MdscrEl1, "mdscr_el1");
PROA_SYSREG(SpEl0, "sp_el0");
PROA_SYSREG(SpEl1, "sp_el1");
PROA_SYSREG(ElrEl1, "elr_el1");
PROA_SYSREG(SpsrEl1, "spsr_el1");
PROA_SYSREG(CntvCtlEl0, "cntv_ctl_el0");
PROA_SYSREG(CntvCvalEl0, "cntv_cval_el0");
PROA_SYSREG(ApiaKeyLo, "S3_0_C2_C1_0");
PROA_SYSREG(ApiaKeyHi, "S3_0_C2_C1_1");
PROA_SYSREG(ApibKeyLo, "S3_0_C2_C1_2");
PROA_SYSREG(ApibKeyHi, "S3_0_C2_C1_3");
PROA_SYSREG(ApdaKeyLo, "S3_0_C2_C2_0");
PROA_SYSREG(ApdaKeyHi, "S3_0_C2_C2_1");
PROA_SYSREG(ApdbKeyLo, "S3_0_C2_C2_2");
PROA_SYSREG(ApdbKeyHi, "S3_0_C2_C2_3");
PROA_SYSREG(ApgaKeyLo, "S3_0_C2_C3_0");
PROA_SYSREG(ApgaKeyHi, "S3_0_C2_C3_1");

// --- identification ----------------------------------------------------------------------------------------
PROA_SYSREG(MidrEl1, "midr_el1");
PROA_SYSREG(MpidrEl1, "mpidr_el1");
PROA_SYSREG(CtrEl0, "ctr_el0");
PROA_SYSREG(DczidEl0, "dczid_el0");
PROA_SYSREG(IdAa64pfr0El1, "id_aa64pfr0_el1");
PROA_SYSREG(IdAa64pfr1El1, "id_aa64pfr1_el1");
PROA_SYSREG(IdAa64zfr0El1, "S3_0_C0_C4_4");
PROA_SYSREG(IdAa64smfr0El1, "S3_0_C0_C4_5");
PROA_SYSREG(IdAa64dfr0El1, "id_aa64dfr0_el1");
PROA_SYSREG(IdAa64dfr1El1, "id_aa64dfr1_el1");
PROA_SYSREG(IdAa64isar0El1, "id_aa64isar0_el1");
PROA_SYSREG(IdAa64isar1El1, "id_aa64isar1_el1");
PROA_SYSREG(IdAa64isar2El1, "S3_0_C0_C6_2");
PROA_SYSREG(IdAa64mmfr0El1, "id_aa64mmfr0_el1");
PROA_SYSREG(IdAa64mmfr1El1, "id_aa64mmfr1_el1");
PROA_SYSREG(IdAa64mmfr2El1, "S3_0_C0_C7_2");
inline constexpr std::uint64_t kMpidrAffinity = 0xff'00ff'ffff;

// --- GIC CPU interface (IHI 0069, 12.2 and 12.4) -------------------------------------------------------------
PROA_SYSREG(IccSreEl2, "S3_4_C12_C9_5");
PROA_SYSREG(IccSreEl1, "S3_0_C12_C12_5");
PROA_SYSREG(IccPmrEl1, "S3_0_C4_C6_0");
PROA_SYSREG(IccIgrpen1El1, "S3_0_C12_C12_7");
PROA_SYSREG(IccCtlrEl1, "S3_0_C12_C12_4");
PROA_SYSREG(IccBpr1El1, "S3_0_C12_C12_3");
PROA_SYSREG(IccIar1El1, "S3_0_C12_C12_0");
PROA_SYSREG(IccEoir1El1, "S3_0_C12_C12_1");
PROA_SYSREG(IccDirEl1, "S3_0_C12_C11_1");
PROA_SYSREG(IccSgi1rEl1, "S3_0_C12_C11_5");
PROA_SYSREG(IchHcrEl2, "S3_4_C12_C11_0");
PROA_SYSREG(IchVtrEl2, "S3_4_C12_C11_1");
PROA_SYSREG(IchVmcrEl2, "S3_4_C12_C11_7");
PROA_SYSREG(IchElrsrEl2, "S3_4_C12_C11_5");
namespace icc {
inline constexpr std::uint64_t SRE = bit(0), DFB = bit(1), DIB = bit(2), ENABLE_LOWER = bit(3),
                               EOI_MODE = bit(1), CBPR = bit(0);
inline constexpr std::uint32_t kSpurious = 1020;  // 1020..1023 are special
}  // namespace icc
namespace ich {
inline constexpr std::uint64_t EN = bit(0);
}

// --- exception syndrome (D19.2.38) --------------------------------------------------------------------------
namespace ec {
inline constexpr unsigned Wfx = 0x01, Fp = 0x07, PacAuth = 0x09, IllegalState = 0x0e, Hvc64 = 0x16,
                          Smc64 = 0x17, SysReg = 0x18, Sve = 0x19, Sme = 0x1d, InstAbortLower = 0x20,
                          InstAbortSame = 0x21, DataAbortLower = 0x24, DataAbortSame = 0x25;
}
constexpr unsigned esr_ec(std::uint64_t esr) {
    return static_cast<unsigned>(field(esr, 26, 6));
}
inline constexpr std::uint64_t kEsrIl = bit(25);

}  // namespace proa::hv
