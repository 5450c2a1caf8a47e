#include "hypervisor/arch/gic.hpp"

#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/mmio.hpp"
#include "hypervisor/arch/sysreg.hpp"

namespace proa::hv {
namespace {

// Distributor (12.9) and redistributor (12.11) registers.
constexpr std::uint64_t GICD_CTLR = 0x0, GICD_TYPER = 0x4, GICD_IGROUPR = 0x80, GICD_ISENABLER = 0x100,
                        GICD_ICENABLER = 0x180, GICD_ICPENDR = 0x280, GICD_ICACTIVER = 0x380,
                        GICD_IPRIORITYR = 0x400, GICD_ICFGR = 0xc00, GICD_IROUTER = 0x6000;
constexpr std::uint64_t GICR_TYPER = 0x8, GICR_WAKER = 0x14, kSgiFrame = 0x1'0000;
constexpr std::uint32_t CTLR_RWP = 1u << 31, CTLR_ARE_NS = 1u << 4, CTLR_GRP1NS = 1u << 1, CTLR_GRP1A = 1u << 0;
constexpr std::uint32_t WAKER_SLEEP = 1 << 1, WAKER_ASLEEP = 1 << 2;
constexpr std::uint64_t TYPER_LAST = bit(4), TYPER_VLPIS = bit(1);
constexpr std::uint32_t kPriority = 0xa0;

constexpr std::uint64_t word(std::uint32_t intid) {
    return intid / 32 * 4;
}
constexpr std::uint32_t mask(std::uint32_t intid) {
    return 1u << (intid % 32);
}

}  // namespace

void PhysGic::wait_distributor() const {
    while ((mmio_read32(at_.gicd + GICD_CTLR) & CTLR_RWP) != 0) {
    }
}

void PhysGic::init(const GicLayout& layout) {
    at_ = layout;
    const std::uint32_t lines = 32 * ((mmio_read32(at_.gicd + GICD_TYPER) & 0x1f) + 1);
    spi_count_ = (lines < 1020 ? lines : 1020) - 32;
    mmio_write32(at_.gicd + GICD_CTLR, 0);
    wait_distributor();
    for (std::uint32_t i = 32; i < 32 + spi_count_; i += 32) {
        mmio_write32(at_.gicd + GICD_ICENABLER + word(i), ~0u);
        mmio_write32(at_.gicd + GICD_ICACTIVER + word(i), ~0u);
        mmio_write32(at_.gicd + GICD_ICPENDR + word(i), ~0u);
        mmio_write32(at_.gicd + GICD_IGROUPR + word(i), ~0u);
    }
    for (std::uint32_t i = 32; i < 32 + spi_count_; i += 4)
        mmio_write32(at_.gicd + GICD_IPRIORITYR + i, kPriority * 0x0101'0101u);
    mmio_write32(at_.gicd + GICD_CTLR, CTLR_ARE_NS | CTLR_GRP1NS | CTLR_GRP1A);
    wait_distributor();
    for (std::uint32_t i = 32; i < 32 + spi_count_; ++i)
        mmio_write64(at_.gicd + GICD_IROUTER + i * 8ull, MpidrEl1::read() & kMpidrAffinity);
}

std::uint64_t PhysGic::redistributor_of(std::uint64_t mpidr) const {
    const std::uint64_t affinity = field(mpidr, 32, 8) << 24 | field(mpidr, 0, 24);
    for (std::uint64_t at = at_.gicr; at < at_.gicr + at_.gicr_size;) {
        const std::uint64_t typer = mmio_read64(at + GICR_TYPER);
        if (typer >> 32 == affinity) return at;
        if ((typer & TYPER_LAST) != 0) break;
        at += (typer & TYPER_VLPIS) != 0 ? 0x4'0000 : 0x2'0000;
    }
    return 0;
}

bool PhysGic::init_cpu(std::uint64_t mpidr) {
    const std::uint64_t rd = redistributor_of(mpidr);
    if (rd == 0) return false;
    mmio_write32(rd + GICR_WAKER, mmio_read32(rd + GICR_WAKER) & ~WAKER_SLEEP);
    while ((mmio_read32(rd + GICR_WAKER) & WAKER_ASLEEP) != 0) {
    }
    const std::uint64_t sgi = rd + kSgiFrame;
    mmio_write32(sgi + GICD_ICENABLER, ~0u);
    mmio_write32(sgi + GICD_ICACTIVER, ~0u);
    mmio_write32(sgi + GICD_ICPENDR, ~0u);
    mmio_write32(sgi + GICD_IGROUPR, ~0u);
    for (std::uint32_t i = 0; i < 32; i += 4) mmio_write32(sgi + GICD_IPRIORITYR + i, kPriority * 0x0101'0101u);
    mmio_write32(sgi + GICD_ISENABLER,
                 mask(kSgiKick) | mask(kPpiMaintenance) | mask(kPpiHypTimer) | mask(kPpiVirtTimer));
    dsb_sy();

    IccSreEl2::write(icc::SRE | icc::DFB | icc::DIB | icc::ENABLE_LOWER);
    isb();
    IccSreEl1::write(icc::SRE | icc::DFB | icc::DIB);
    isb();
    IccPmrEl1::write(0xff);
    IccBpr1El1::write(0);
    IccCtlrEl1::write(icc::EOI_MODE);
    IccIgrpen1El1::write(1);
    isb();
    return true;
}

void PhysGic::enable_spi(std::uint32_t intid, bool on) {
    mmio_write32(at_.gicd + (on ? GICD_ISENABLER : GICD_ICENABLER) + word(intid), mask(intid));
    if (!on) wait_distributor();
}

void PhysGic::configure_spi(std::uint32_t intid, bool edge) {
    const std::uint64_t at = at_.gicd + GICD_ICFGR + intid / 16 * 4;
    const std::uint32_t bits = 2u << (intid % 16 * 2);
    const std::uint32_t v = mmio_read32(at);
    mmio_write32(at, edge ? v | bits : v & ~bits);
}

void PhysGic::route_spi(std::uint32_t intid, std::uint64_t mpidr, bool any) {
    mmio_write64(at_.gicd + GICD_IROUTER + intid * 8ull, any ? bit(31) : mpidr & kMpidrAffinity);
}

void PhysGic::set_private(std::uint64_t rd, std::uint32_t intid, bool on) {
    mmio_write32(rd + kSgiFrame + (on ? GICD_ISENABLER : GICD_ICENABLER), mask(intid));
}

void PhysGic::set_private_active(std::uint64_t rd, std::uint32_t intid, bool active) {
    mmio_write32(rd + kSgiFrame + (active ? 0x300 : GICD_ICACTIVER), mask(intid));
}

void PhysGic::deactivate_spi(std::uint32_t intid) {
    mmio_write32(at_.gicd + GICD_ICACTIVER + word(intid), mask(intid));
}

std::uint32_t PhysGic::acknowledge() {
    const auto intid = static_cast<std::uint32_t>(IccIar1El1::read() & 0xff'ffff);
    dsb_sy();
    return intid;
}
void PhysGic::drop_priority(std::uint32_t intid) {
    IccEoir1El1::write(intid);
    isb();
}
void PhysGic::deactivate(std::uint32_t intid) {
    IccDirEl1::write(intid);
    isb();
}

void PhysGic::send_sgi(std::uint32_t intid, std::uint64_t mpidr) {
    // ICC_SGI1R_EL1: Aff3 [55:48], RS [47:44], Aff2 [39:32], INTID [27:24], Aff1 [23:16], target list [15:0].
    const std::uint64_t aff0 = field(mpidr, 0, 8);
    dsb_ishst();
    IccSgi1rEl1::write(field(mpidr, 32, 8) << 48 | (aff0 / 16) << 44 | field(mpidr, 16, 8) << 32 |
                       static_cast<std::uint64_t>(intid) << 24 | field(mpidr, 8, 8) << 16 |
                       1ull << (aff0 % 16));
    isb();
}

}  // namespace proa::hv
