// The part of a vCPU that the exception vectors save and restore themselves (vectors.S knows these offsets).
#pragma once
#include <cstddef>
#include <cstdint>

namespace proa::hv {

struct TrapFrame {
    std::uint64_t x[31];
    std::uint64_t pc, pstate;
    std::uint64_t reserved;
};
static_assert(offsetof(TrapFrame, pc) == 31 * 8 && sizeof(TrapFrame) == 34 * 8);

// FP and SIMD registers; fp.S.
struct alignas(16) FpContext {
    std::uint64_t v[32][2];
    std::uint64_t fpsr, fpcr;
};
static_assert(offsetof(FpContext, fpsr) == 512);
extern "C" void fp_save(FpContext* to);
extern "C" void fp_load(const FpContext* from);

// SPSR_EL2 values (C5.2.20).
namespace pstate {
inline constexpr std::uint64_t EL0t = 0x0, EL1t = 0x4, EL1h = 0x5, kModeMask = 0xf, F = 1 << 6, I = 1 << 7,
                               A = 1 << 8, D = 1 << 9, AArch32 = 1 << 4, SSBS = 1 << 12, IL = 1 << 20,
                               SS = 1 << 21, PAN = 1 << 22;
inline constexpr std::uint64_t kReset = EL1h | D | A | I | F;
}  // namespace pstate

}  // namespace proa::hv
