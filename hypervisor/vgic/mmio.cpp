// The distributor's and redistributors' registers (12.9 to 12.11). Banked-by-bit registers share one implementation:
// a table row says which attribute a group of registers reads, sets or clears.
#include "hypervisor/vgic/vgic.hpp"

namespace proa::hv {

class VgicMmio {
  public:
    enum class Bits { Group, SetEnable, ClearEnable, SetPending, ClearPending, SetActive, ClearActive, None };
    struct BitRange {
        std::uint64_t base;
        Bits what;
    };
    // Each covers 0x80 bytes: one bit an INTID.
    static constexpr BitRange kRanges[] = {
        {0x080, Bits::Group},       {0x100, Bits::SetEnable},    {0x180, Bits::ClearEnable},
        {0x200, Bits::SetPending},  {0x280, Bits::ClearPending}, {0x300, Bits::SetActive},
        {0x380, Bits::ClearActive},
    };
    static constexpr std::uint64_t kPriority = 0x400, kConfig = 0xc00, kRouter = 0x6000;

    static Bits classify(std::uint64_t offset, std::uint32_t& first) {
        for (const BitRange& r : kRanges)
            if (offset >= r.base && offset < r.base + 0x80) {
                first = static_cast<std::uint32_t>((offset - r.base) * 8);
                return r.what;
            }
        return Bits::None;
    }

    static bool read_bit(const Irq& q, Bits what) {
        switch (what) {
            case Bits::Group: return q.group1;
            case Bits::SetEnable:
            case Bits::ClearEnable: return q.enabled;
            case Bits::SetPending:
            case Bits::ClearPending: return q.pending() || (q.in_lr && !q.active);
            case Bits::SetActive:
            case Bits::ClearActive: return q.active;
            case Bits::None: break;
        }
        return false;
    }

    static void write_bit(Vgic& g, unsigned vcpu, std::uint32_t intid, Irq& q, Bits what, bool bit) {
        HwOps* hw = q.hw && intid >= 32 ? g.config_.hw : nullptr;
        switch (what) {
            case Bits::Group: q.group1 = bit; break;
            case Bits::SetEnable:
                if (!bit) return;
                q.enabled = true;
                if (hw != nullptr) hw->enable(intid, true);
                break;
            case Bits::ClearEnable:
                if (!bit) return;
                q.enabled = false;
                g.recall(q);
                if (hw != nullptr) hw->enable(intid, false);
                break;
            case Bits::SetPending:
                if (!bit) return;
                return g.pend(vcpu, intid, q);
            case Bits::ClearPending:
                if (!bit) return;
                if (q.latch) g.drop_hw(vcpu, intid, q);
                q.latch = q.from_latch =
                    false;  // from_latch: what another vCPU's list register brings back is void
                break;
            case Bits::SetActive:
                if (!bit) return;
                if (!q.active) q.active_on = static_cast<std::uint8_t>(intid < 32 ? vcpu : g.target_of(q));
                q.active = true;
                break;
            case Bits::ClearActive:
                if (!bit) return;
                if (q.active) g.drop_hw(vcpu, intid, q);
                q.active = false;
                break;
            case Bits::None: return;
        }
        g.update(vcpu, intid);
    }

    // [first, last) of this frame: private INTIDs in a redistributor, SPIs in the distributor.
    static bool in_frame(std::uint32_t intid, bool distributor, const Vgic& g) {
        return distributor ? intid >= 32 && intid - 32 < g.config_.spis : intid < 32;
    }

    static std::uint64_t read(const Vgic& g, unsigned vcpu, bool distributor, std::uint64_t offset,
                              unsigned size) {
        std::uint32_t first = 0;
        if (const Bits what = classify(offset, first); what != Bits::None) {
            std::uint64_t v = 0;
            for (unsigned i = 0; i < size * 8; ++i)
                if (in_frame(first + i, distributor, g) && read_bit(*g.find(vcpu, first + i), what))
                    v |= 1ull << i;
            return v;
        }
        if (offset >= kPriority && offset < kPriority + 1020) {
            std::uint64_t v = 0;
            for (unsigned i = 0; i < size; ++i) {
                const auto intid = static_cast<std::uint32_t>(offset - kPriority + i);
                if (in_frame(intid, distributor, g))
                    v |= static_cast<std::uint64_t>(g.find(vcpu, intid)->priority) << (8 * i);
            }
            return v;
        }
        if (offset >= kConfig && offset < kConfig + 0x100) {
            std::uint64_t v = 0;
            for (unsigned i = 0; i < size * 4; ++i) {
                const auto intid = static_cast<std::uint32_t>((offset - kConfig) * 4 + i);
                if (in_frame(intid, distributor, g) && g.find(vcpu, intid)->edge) v |= 2ull << (2 * i);
            }
            return v;
        }
        return 0;
    }

    static void write(Vgic& g, unsigned vcpu, bool distributor, std::uint64_t offset, unsigned size,
                      std::uint64_t v) {
        std::uint32_t first = 0;
        if (const Bits what = classify(offset, first); what != Bits::None) {
            for (unsigned i = 0; i < size * 8; ++i)
                if (in_frame(first + i, distributor, g))
                    write_bit(g, vcpu, first + i, *g.find(vcpu, first + i), what, (v >> i & 1) != 0);
            return;
        }
        if (offset >= kPriority && offset < kPriority + 1020) {
            for (unsigned i = 0; i < size; ++i) {
                const auto intid = static_cast<std::uint32_t>(offset - kPriority + i);
                if (!in_frame(intid, distributor, g)) continue;
                g.find(vcpu, intid)->priority = static_cast<std::uint8_t>(v >> (8 * i)) & 0xf8;  // 32 levels
                g.update(vcpu, intid);
            }
            return;
        }
        if (offset >= kConfig && offset < kConfig + 0x100) {
            for (unsigned i = 0; i < size * 4; ++i) {
                const auto intid = static_cast<std::uint32_t>((offset - kConfig) * 4 + i);
                if (!in_frame(intid, distributor, g) || intid < 16) continue;
                Irq& q = *g.find(vcpu, intid);
                q.edge = (v >> (2 * i + 1) & 1) != 0;
                if (q.hw && intid >= 32) g.config_.hw->configure(intid, q.edge);
                g.update(vcpu, intid);
            }
        }
    }

    static std::uint64_t read_router(const Vgic& g, std::uint32_t intid) {
        if (!in_frame(intid, true, g)) return 0;
        const Irq& q = *g.find(0, intid);
        return q.target == Vgic::kAny ? 1ull << 31 : g.config_.mpidr[q.target];
    }
    static void write_router(Vgic& g, std::uint32_t intid, std::uint64_t v) {
        if (!in_frame(intid, true, g)) return;
        Irq& q = *g.find(0, intid);
        if ((v >> 31 & 1) != 0) {
            q.target = Vgic::kAny;
        } else {
            for (unsigned i = 0; i < g.config_.vcpus; ++i)
                if ((g.config_.mpidr[i] & 0xff'00ff'ffff) == (v & 0xff'00ff'ffff))
                    q.target = static_cast<std::uint16_t>(i);
        }
        if (q.hw) g.config_.hw->route(intid, g.target_of(q));
        g.update(0, intid);
    }
};

namespace {

// Identification registers, the same in both frames.
constexpr std::uint64_t kIidr = 0x43b | 0x70ull << 24, kPidr2 = 0x3b;
constexpr std::uint64_t kArchRev = 0x30;  // GICv3

// Part of a wider register by an access narrower than it.
constexpr std::uint64_t part(std::uint64_t reg, std::uint64_t offset, unsigned size) {
    const std::uint64_t v = reg >> (8 * (offset & 7));
    return size == 8 ? v : v & ((1ull << (8 * size)) - 1);
}

}  // namespace

std::uint64_t Vgic::gicd_read(std::uint64_t offset, unsigned size) const {
    switch (offset) {
        case 0x0: return ctlr_ | 1u << 4 | 1u << 6;  // ARE, DS
        case 0x4: {
            const std::uint64_t lines = (config_.spis + 32 + 31) / 32 - 1;
            return (lines > 31 ? 31 : lines) | 9ull << 19;  // ITLinesNumber, IDbits = 10
        }
        case 0x8: return kIidr;
        case 0xffe8: return kPidr2 | kArchRev;
        default: break;
    }
    if (offset >= VgicMmio::kRouter && offset < VgicMmio::kRouter + 1020 * 8)
        return part(VgicMmio::read_router(*this, static_cast<std::uint32_t>((offset - VgicMmio::kRouter) / 8)),
                    offset, size);
    return VgicMmio::read(*this, 0, true, offset, size);
}

void Vgic::gicd_write(std::uint64_t offset, unsigned size, std::uint64_t value) {
    if (offset == 0) {
        ctlr_ = static_cast<std::uint32_t>(value) & kEnableGrp1;
        recompute_all();
        return;
    }
    if (offset >= VgicMmio::kRouter && offset < VgicMmio::kRouter + 1020 * 8) {
        const auto intid = static_cast<std::uint32_t>((offset - VgicMmio::kRouter) / 8);
        std::uint64_t v = value;
        if (size == 4) {
            const std::uint64_t old = VgicMmio::read_router(*this, intid);
            v = (offset & 4) != 0 ? (old & 0xffff'ffff) | value << 32
                                  : (old & ~0xffff'ffffull) | (value & 0xffff'ffff);
        }
        VgicMmio::write_router(*this, intid, v);
        return;
    }
    VgicMmio::write(*this, 0, true, offset, size, value);
}

std::uint64_t Vgic::gicr_read(std::uint64_t offset, unsigned size) const {
    const auto vcpu = static_cast<unsigned>(offset / abi::kGicrStride);
    if (vcpu >= config_.vcpus) return 0;
    offset %= abi::kGicrStride;
    if (offset >= 0x1'0000) return VgicMmio::read(*this, vcpu, false, offset - 0x1'0000, size);
    switch (offset & ~7ull) {
        case 0x0: return part(kIidr << 32, offset, size);  // CTLR (0x0) reads 0, IIDR at 0x4
        case 0x8: {
            const std::uint64_t aff = config_.mpidr[vcpu];
            const std::uint64_t affinity = (aff >> 32 & 0xff) << 24 | (aff & 0xff'ffff);
            const bool last = vcpu + 1 == config_.vcpus;
            return part(affinity << 32 | static_cast<std::uint64_t>(vcpu) << 8 | (last ? 1u << 4 : 0), offset,
                        size);
        }
        case 0x10: {
            const std::uint64_t w = waker_[vcpu] | (waker_[vcpu] != 0 ? 4u : 0);  // ChildrenAsleep follows
            return part(w << 32, offset, size);
        }
        case 0xffe8: return part(kPidr2 | kArchRev, offset, size);
        default: return 0;
    }
}

void Vgic::gicr_write(std::uint64_t offset, unsigned size, std::uint64_t value) {
    const auto vcpu = static_cast<unsigned>(offset / abi::kGicrStride);
    if (vcpu >= config_.vcpus) return;
    offset %= abi::kGicrStride;
    if (offset >= 0x1'0000)
        VgicMmio::write(*this, vcpu, false, offset - 0x1'0000, size, value);
    else if (offset == 0x14)
        waker_[vcpu] = static_cast<std::uint32_t>(value) & kWakerSleep;
}

}  // namespace proa::hv
