// A domain's GICv3 (IHI 0069): distributor, redistributors, and what goes into each vCPU's list registers. Pure data
// and logic; the owner holds Domain::vgic_lock around every call, moves LrFile to and from the hardware, and acts on
// take_kicks(). Guests and the control domain use the same code; the control domain's SPIs are hardware-backed.
//
// An interrupt's state lives in Irq except while a vCPU runs with it in a list register. sync() folds the list
// registers back and empties the file; flush() fills it again. Nothing else reads or writes LrFile::lr.
#pragma once
#include <cstddef>
#include <cstdint>

#include "hypervisor/abi/state.hpp"

namespace proa::hv {

// ICH_LR<n>_EL2 (12.4.5).
namespace lr {
inline constexpr std::uint64_t Pending = 1ull << 62, Active = 2ull << 62, HW = 1ull << 61, Group1 = 1ull << 60;
inline constexpr std::uint64_t Eoi = 1ull << 41;  // HW = 0: maintenance interrupt when deactivated
constexpr std::uint64_t priority(std::uint64_t p) {
    return p << 48;
}
constexpr std::uint64_t pintid(std::uint64_t i) {
    return i << 32;
}
constexpr std::uint32_t vintid(std::uint64_t v) {
    return static_cast<std::uint32_t>(v);
}
}  // namespace lr
// ICH_HCR_EL2 (12.4.3).
namespace ich_hcr {
inline constexpr std::uint64_t En = 1 << 0, Uie = 1 << 1, Lrenpie = 1 << 2;
constexpr unsigned eoi_count(std::uint64_t v) {
    return static_cast<unsigned>(v >> 27 & 31);
}
}  // namespace ich_hcr

struct LrFile {
    static constexpr unsigned kMax = 16;
    std::uint64_t lr[kMax] = {};
    unsigned count = 4;  // implemented, ICH_VTR_EL2.ListRegs + 1
    unsigned used = 0;   // lr[0..used) hold something since the last flush
    std::uint64_t hcr = ich_hcr::En;
};

// What the owner does to the physical distributor on behalf of hardware-backed interrupts.
class HwOps {
  public:
    virtual void enable(std::uint32_t intid, bool on) = 0;
    virtual void configure(std::uint32_t intid, bool edge) = 0;
    virtual void route(std::uint32_t intid, unsigned vcpu) = 0;
    virtual void deactivate(std::uint32_t intid) = 0;

  protected:
    ~HwOps() = default;
};

struct Irq {
    std::uint8_t priority = 0;
    bool enabled : 1 = false;
    bool latch : 1 = false;  // edge seen, ISPENDR written, or a hardware SPI fired
    bool line : 1 = false;   // level input
    bool active : 1 = false;
    bool edge : 1 = false;
    bool group1 : 1 = false;
    bool hw : 1 = false;          // list register carries HW = 1, pINTID = INTID
    bool from_latch : 1 = false;  // in a list register: the latch contributed and was consumed
    bool in_lr : 1 = false;
    std::uint8_t active_on = 0;  // vCPU that holds it active (or in a list register)
    std::uint16_t target = 0;

    bool pending() const { return latch || (line && !edge); }
};

class Vgic {
  public:
    static constexpr unsigned kMaxVcpus = 16, kMaxSpis = 988, kAny = 0xffff;

    struct Config {
        unsigned vcpus = 1, spis = 32;
        std::uint64_t mpidr[kMaxVcpus] = {};  // affinity fields
        HwOps* hw = nullptr;                  // control domain only
        unsigned hw_spis = 0;                 // SPIs 32 .. 32 + hw_spis are hardware-backed
    };
    // `spis` has config.spis entries and is the caller's.
    void init(const Config& config, Irq* spis);
    void reset();

    // --- MMIO; offset within the frame(s), naturally aligned, size 1, 2, 4 or 8 -----------------------------------
    std::uint64_t gicd_read(std::uint64_t offset, unsigned size) const;
    void gicd_write(std::uint64_t offset, unsigned size, std::uint64_t value);
    std::uint64_t gicr_read(std::uint64_t offset, unsigned size) const;  // vCPU = offset / kGicrStride
    void gicr_write(std::uint64_t offset, unsigned size, std::uint64_t value);

    // --- inputs ---------------------------------------------------------------------------------------------------
    void set_line(std::uint32_t intid, bool level);                         // SPI
    void set_private_line(unsigned vcpu, std::uint32_t intid, bool level);  // PPI
    void hw_fired(std::uint32_t intid);  // acknowledged at EL2, still active there
    // The virtual timer's line as it is now, asked before each entry: it falls without a trap when the guest programs the
    // timer anew. True: its physical interrupt is to be deactivated, for no list register will do it.
    bool settle_timer(unsigned vcpu, bool met);
    void send_sgi(unsigned source, std::uint64_t icc_sgi1r);

    // --- the CPU interface ----------------------------------------------------------------------------------------
    void sync(unsigned vcpu, LrFile& file);
    void flush(unsigned vcpu, LrFile& file);
    bool has_deliverable(unsigned vcpu) const;  // after sync
    bool in_flight(unsigned vcpu,
                   std::uint32_t intid) const;  // PPI pending or active: keep it active physically
    std::uint32_t take_kicks() {
        const std::uint32_t k = kicks_;
        kicks_ = 0;
        return k;
    }

    // --- state that moves; every vCPU synced ------------------------------------------------------------------------
    void save(abi::GicState& s) const;
    bool load(const abi::GicState& s);  // false, and nothing changed, if it doesn't fit this machine

    unsigned vcpus() const { return config_.vcpus; }

  private:
    friend class VgicMmio;
    Irq* find(unsigned vcpu, std::uint32_t intid);
    const Irq* find(unsigned vcpu, std::uint32_t intid) const {
        return const_cast<Vgic*>(this)->find(vcpu, intid);
    }
    unsigned target_of(const Irq& q) const { return q.target == kAny ? 0 : q.target; }
    void update(unsigned vcpu, std::uint32_t intid);  // after any change: candidate bitmaps and kicks
    bool candidate(const Irq& q) const {
        return q.pending() && q.enabled && !q.active && !q.in_lr && q.group1 && (ctlr_ & kEnableGrp1) != 0;
    }
    std::uint64_t make_lr(std::uint32_t intid, const Irq& q) const;
    void recompute_all();
    // Pending again behind its own back (not for levels, which are looked at when they end, nor for hardware-backed ones).
    bool comes_again(const Irq& q) const {
        return q.active && q.latch && q.edge && !q.hw && q.enabled && q.group1 && (ctlr_ & kEnableGrp1) != 0;
    }
    void recall(const Irq& q);
    void pend(unsigned vcpu, std::uint32_t intid, Irq& q);
    void drive(unsigned vcpu, std::uint32_t intid, Irq& q, bool level);
    void drop_hw(unsigned vcpu, std::uint32_t intid, const Irq& q);
    void deactivate_one(unsigned vcpu);

    static constexpr std::uint32_t kEnableGrp1 = 2, kWakerSleep = 2;
    static constexpr unsigned kSpiWords = (kMaxSpis + 63) / 64;

    Config config_;
    Irq* spi_ = nullptr;
    Irq priv_[kMaxVcpus][32];
    std::uint32_t priv_ready_[kMaxVcpus] = {}, priv_active_[kMaxVcpus] = {};
    std::uint64_t spi_ready_[kSpiWords] = {}, spi_active_[kSpiWords] = {};
    std::uint32_t waker_[kMaxVcpus] = {};
    std::uint32_t ctlr_ = 0;
    std::uint32_t kicks_ = 0;
    std::uint32_t released_ = 0;  // vCPUs whose physical timer interrupt nothing will deactivate
};

}  // namespace proa::hv
