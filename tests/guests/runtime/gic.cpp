#include "tests/guests/runtime/gic.hpp"

#include "tests/guests/runtime/cpu.hpp"

namespace guest {
namespace {

constexpr std::uint64_t kSgiFrame = 0x1'0000;

void wait_writes() {
    while ((in32(kGicd + gicd::kCtlr) >> 31 & 1) != 0) relax();  // RWP
}

// This CPU's redistributor: the one whose TYPER carries its affinity.
std::uint64_t redistributor() {
    const std::uint64_t mpidr = READ_REG("mpidr_el1");
    const std::uint64_t affinity = (mpidr >> 32 & 0xff) << 24 | (mpidr & 0xff'ffff);
    for (std::uint64_t at = kGicr;; at += kGicrStride) {
        const std::uint64_t typer = in64(at + 8);
        if (typer >> 32 == affinity) return at;
        if ((typer >> 4 & 1) != 0) return 0;  // Last
    }
}
std::uint64_t frames[kMaxCpus];

std::uint64_t frame_of(std::uint32_t intid) {
    return intid < 32 ? frames[cpu_index()] + kSgiFrame : kGicd;
}

}  // namespace

void gic_init() {
    out32(kGicd + gicd::kCtlr, 0);
    wait_writes();
    const std::uint32_t lines = 32 * ((in32(kGicd + gicd::kTyper) & 31) + 1);
    for (std::uint32_t i = 32; i < lines; i += 32) {
        out32(kGicd + gicd::kClearEnable + i / 8, ~0u);
        out32(kGicd + gicd::kClearPending + i / 8, ~0u);
        out32(kGicd + gicd::kClearActive + i / 8, ~0u);
        out32(kGicd + gicd::kGroup + i / 8, ~0u);
    }
    for (std::uint32_t i = 32; i < lines; i += 4)
        out32(kGicd + gicd::kPriority + i, kDefaultPriority * 0x0101'0101u);
    out32(kGicd + gicd::kCtlr, 1 << 4 | 1 << 1);  // ARE, EnableGrp1 (one security state)
    wait_writes();
}

void gic_init_cpu() {
    const std::uint64_t rd = redistributor();
    frames[cpu_index()] = rd;
    out32(rd + 0x14, in32(rd + 0x14) & ~2u);  // WAKER.ProcessorSleep
    while ((in32(rd + 0x14) & 4) != 0) relax();
    const std::uint64_t f = rd + kSgiFrame;
    out32(f + gicd::kClearEnable, ~0u);
    out32(f + gicd::kClearPending, ~0u);
    out32(f + gicd::kClearActive, ~0u);
    out32(f + gicd::kGroup, ~0u);
    for (std::uint32_t i = 0; i < 32; i += 4) out32(f + gicd::kPriority + i, kDefaultPriority * 0x0101'0101u);
    out32(f + gicd::kSetEnable, 0xffff);  // SGIs
    dsb();
    WRITE_REG("S3_0_C12_C12_5", 7);  // ICC_SRE_EL1
    isb();
    eoi_only_drops(false);
    WRITE_REG("S3_0_C12_C12_3", 0);  // ICC_BPR1_EL1
    priority_mask(0xff);
    WRITE_REG("S3_0_C12_C12_7", 1);  // ICC_IGRPEN1_EL1
    isb();
}

void enable_irq(std::uint32_t intid, bool on) {
    out32(frame_of(intid) + (on ? gicd::kSetEnable : gicd::kClearEnable) + intid / 32 * 4, 1u << (intid % 32));
    if (!on && intid >= 32) wait_writes();
}

void set_priority(std::uint32_t intid, std::uint8_t priority) {
    out8(frame_of(intid) + gicd::kPriority + intid, priority);
}

void set_edge(std::uint32_t intid, bool edge) {
    const std::uint64_t at = frame_of(intid) + gicd::kConfig + intid / 16 * 4;
    const std::uint32_t bit = 2u << (intid % 16 * 2), v = in32(at);
    out32(at, edge ? v | bit : v & ~bit);
}

void route(std::uint32_t spi, std::uint64_t mpidr) {
    out64(kGicd + gicd::kRouter + 8ull * spi, mpidr & 0xff'00ff'ffff);
}

bool gic_bit(std::uint64_t what, std::uint32_t intid) {
    return (in32(frame_of(intid) + what + intid / 32 * 4) >> (intid % 32) & 1) != 0;
}
void set_gic_bit(std::uint64_t what, std::uint32_t intid) {
    out32(frame_of(intid) + what + intid / 32 * 4, 1u << (intid % 32));
}

void send_sgi(std::uint32_t intid, std::uint64_t mpidr) {
    // ICC_SGI1R_EL1: Aff3 [55:48], RS [47:44], Aff2 [39:32], INTID [27:24], Aff1 [23:16], target list [15:0].
    const std::uint64_t aff0 = mpidr & 0xff;
    dsb();
    WRITE_REG("S3_0_C12_C11_5", (mpidr >> 32 & 0xff) << 48 | (aff0 / 16) << 44 | (mpidr >> 16 & 0xff) << 32 |
                                    static_cast<std::uint64_t>(intid) << 24 | (mpidr >> 8 & 0xff) << 16 |
                                    1ull << (aff0 % 16));
    isb();
}

void send_sgi_to_others(std::uint32_t intid) {
    dsb();
    WRITE_REG("S3_0_C12_C11_5", 1ull << 40 | static_cast<std::uint64_t>(intid) << 24);
    isb();
}

}  // namespace guest
