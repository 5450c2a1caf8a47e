#include "tests/guests/runtime/registers.hpp"

#include "tests/guests/runtime/cpu.hpp"
#include "tests/guests/runtime/random.hpp"
#include "tests/guests/runtime/sysreg.hpp"

namespace guest {
namespace {

// hold.S: X9..X28 and V0..V31 from `from` (20 + 64 words), spin, all of it to `to`.
extern "C" void hold_general_and_vector(const std::uint64_t* from, std::uint64_t* to, std::uint64_t loops);
constexpr unsigned kGeneral = 20, kWords = kGeneral + 64;

struct Row {
    const char* name;
    std::uint64_t mask;  // bits that hold any value and mean nothing to this program
    std::uint64_t (*read)();
    void (*write)(std::uint64_t);
    bool pauth;
};
#define ROW(shown, name, mask, pauth)                                                                  \
    {                                                                                                  \
        shown, mask, [] { return READ_REG(name); }, [](std::uint64_t v) { WRITE_REG(name, v); }, pauth \
    }
constexpr std::uint64_t kAll = ~0ull;
constexpr Row kRows[] = {
    ROW("TPIDR_EL0", "tpidr_el0", kAll, false),
    ROW("TPIDRRO_EL0", "tpidrro_el0", kAll, false),
    ROW("TPIDR_EL1", "tpidr_el1", kAll, false),
    ROW("CONTEXTIDR_EL1", "contextidr_el1", 0xffff'ffff, false),
    ROW("SP_EL0", "sp_el0", kAll, false),
    ROW("ELR_EL1", "elr_el1", kAll, false),
    ROW("ESR_EL1", "esr_el1", 0x3ff'ffff, false),
    ROW("FAR_EL1", "far_el1", kAll, false),
    ROW("FPCR", "fpcr", 0x07c0'0000, false),
    ROW("FPSR", "fpsr", 0x0800'009f, false),
    ROW("CNTKCTL_EL1", "cntkctl_el1", 0xff, false),
    ROW("CSSELR_EL1", "csselr_el1", 0x3, false),
    ROW("CNTV_CVAL_EL0", "cntv_cval_el0", kAll, false),
    ROW("CNTP_CVAL_EL0", "cntp_cval_el0", kAll, false),
    ROW("ICC_PMR_EL1", "S3_0_C4_C6_0", 0xf8, false),
    ROW("ICC_BPR1_EL1", "S3_0_C12_C12_3", 0x4, false),
    ROW("APIAKeyLo", "S3_0_C2_C1_0", kAll, true),
    ROW("APIAKeyHi", "S3_0_C2_C1_1", kAll, true),
    ROW("APIBKeyLo", "S3_0_C2_C1_2", kAll, true),
    ROW("APIBKeyHi", "S3_0_C2_C1_3", kAll, true),
    ROW("APDAKeyLo", "S3_0_C2_C2_0", kAll, true),
    ROW("APDAKeyHi", "S3_0_C2_C2_1", kAll, true),
    ROW("APDBKeyLo", "S3_0_C2_C2_2", kAll, true),
    ROW("APDBKeyHi", "S3_0_C2_C2_3", kAll, true),
    ROW("APGAKeyLo", "S3_0_C2_C3_0", kAll, true),
    ROW("APGAKeyHi", "S3_0_C2_C3_1", kAll, true),
};
#undef ROW

bool has_pauth() {
    return (READ_REG("id_aa64isar1_el1") & 0xff00'0ff0) != 0;
}

struct alignas(64) Buffers {
    std::uint64_t in[kWords], out[kWords];
};
Buffers buffers[kMaxCpus];

}  // namespace

const char* register_sets() {
    return has_pauth() ? "x,v,system,pauth-keys" : "x,v,system";
}

const char* hold_registers(std::uint64_t seed, std::uint64_t loops) {
    Buffers& b = buffers[cpu_index()];
    Random random(seed);
    const bool pauth = has_pauth();
    WRITE_REG("cpacr_el1", 3 << 20);
    isb();
    for (auto& w : b.in) w = random.next();
    std::uint64_t values[sizeof(kRows) / sizeof(kRows[0])];
    for (unsigned i = 0; const Row& r : kRows) {
        values[i] = random.next() & r.mask;
        if (!r.pauth || pauth) r.write(values[i]);
        ++i;
    }
    isb();
    hold_general_and_vector(b.in, b.out, loops);
    for (unsigned i = 0; const Row& r : kRows) {
        if ((!r.pauth || pauth) && (r.read() & r.mask) != values[i]) return r.name;
        ++i;
    }
    for (unsigned i = 0; i < kWords; ++i)
        if (b.in[i] != b.out[i]) return i < kGeneral ? "X9..X28" : "V0..V31";
    return nullptr;
}

}  // namespace guest
