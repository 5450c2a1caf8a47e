// The identity map: 40 bits of addresses in 1 GiB blocks, RAM as normal write-back memory, everything else as device. The
// same tables serve TTBR1, so that all of it is there a second time at kHighAlias.
#include <cstdint>

#include "tests/guests/runtime/mmu.hpp"
#include "tests/guests/runtime/platform.hpp"

namespace guest {
namespace {

constexpr std::uint64_t kBlock = 1, kTable = 3, kAf = 1 << 10, kInner = 3 << 8, kNormal = 0 << 2,
                        kDevice = 1 << 2, kNoExecute = 3ull << 53;
constexpr std::uint64_t kGiB = 1ull << 30;

alignas(4096) std::uint64_t level0[512], level1[2][512];

}  // namespace

extern "C" {
// Read by enable_mmu (start.S): MAIR, TCR, TTBR, SCTLR.
std::uint64_t mmu_values[4];

void make_tables() {
    constexpr std::uint64_t kMostRam = 16;  // GiB, from kRam; where none is, nobody looks
    for (unsigned t = 0; t < 2; ++t) {
        level0[t] = reinterpret_cast<std::uint64_t>(level1[t]) | kTable;
        for (std::uint64_t i = 0; i < 512; ++i) {
            const std::uint64_t gib = t * 512 + i;
            const bool ram = gib >= kRam / kGiB && gib < kRam / kGiB + kMostRam;
            level1[t][i] = gib * kGiB | kAf | kBlock | (ram ? kNormal | kInner : kDevice | kNoExecute);
        }
    }
    mmu_values[0] = 0x04ff;  // attribute 0: normal write-back; 1: device nGnRE
    // T0SZ = T1SZ = 24, write-back inner-shareable walks, TG1 = 4 KiB, 40-bit PA.
    constexpr std::uint64_t kHalf = 24 | 1 << 8 | 1 << 10 | 3 << 12;
    mmu_values[1] = kHalf | kHalf << 16 | 2ull << 30 | 2ull << 32;
    mmu_values[2] = reinterpret_cast<std::uint64_t>(level0);
    mmu_values[3] = kSctlrOn;
}
}

}  // namespace guest
