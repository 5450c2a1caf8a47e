// What the vGIC tests share: a vCPU that plays the hardware's list registers, and a machine with 64 SPIs.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "hypervisor/vgic/vgic.hpp"

namespace proa::hv {

inline constexpr std::uint64_t kSgiFrame = 0x1'0000;

// One vCPU with real list-register behaviour: acknowledge takes the most urgent pending one, EOI deactivates.
class CpuModel {
  public:
    CpuModel(Vgic& g, unsigned index, unsigned registers) : gic_(g), index_(index) { file_.count = registers; }
    void exit() { gic_.sync(index_, file_); }
    void enter() { gic_.flush(index_, file_); }
    std::uint32_t acknowledge() {
        std::uint64_t* best = nullptr;
        for (unsigned i = 0; i < file_.used; ++i) {
            std::uint64_t& l = file_.lr[i];
            if ((l & lr::Pending) != 0 && (l & lr::Active) == 0 &&
                (best == nullptr || priority(l) < priority(*best)))
                best = &l;
        }
        if (best == nullptr) return 1023;
        *best = (*best & ~lr::Pending) | lr::Active;
        return lr::vintid(*best);
    }
    // True if the EOI raises a maintenance interrupt.
    bool eoi(std::uint32_t intid) {
        for (unsigned i = 0; i < file_.used; ++i) {
            std::uint64_t& l = file_.lr[i];
            if (lr::vintid(l) != intid || (l & lr::Active) == 0) continue;
            l &= ~lr::Active;
            return (l & lr::Eoi) != 0;
        }
        file_.hcr += 1ull << 27;  // EOIcount
        return false;
    }
    // Whether the maintenance interrupt is asserted (ICH_MISR_EL2, 12.4.7).
    bool maintenance() const {
        bool pending = false;
        for (unsigned i = 0; i < file_.used; ++i) pending = pending || (file_.lr[i] & lr::Pending) != 0;
        return ((file_.hcr & ich_hcr::Npie) != 0 && !pending) ||
               ((file_.hcr & ich_hcr::Lrenpie) != 0 && ich_hcr::eoi_count(file_.hcr) != 0);
    }
    unsigned used() const { return file_.used; }
    const LrFile& file() const { return file_; }

  private:
    static std::uint64_t priority(std::uint64_t l) { return l >> 48 & 0xff; }
    Vgic& gic_;
    unsigned index_;
    LrFile file_;
};

class VgicTest : public ::testing::Test {
  protected:
    void make(unsigned vcpus, unsigned registers = 4, HwOps* hw = nullptr, unsigned hw_spis = 0) {
        Vgic::Config c;
        c.vcpus = vcpus;
        c.spis = 64;
        c.hw = hw;
        c.hw_spis = hw_spis;
        for (unsigned i = 0; i < vcpus; ++i) c.mpidr[i] = i;
        gic.init(c, spis);
        gic.gicd_write(0, 4, 2);
        for (unsigned i = 0; i < vcpus; ++i) {
            cpus.push_back(std::make_unique<CpuModel>(gic, i, registers));
            gic.gicr_write(i * abi::kGicrStride + kSgiFrame + 0x80, 4, ~0u);
        }
        for (unsigned w = 4; w < 12; w += 4) gic.gicd_write(0x80 + w, 4, ~0u);
        (void)gic.take_kicks();
    }
    void enable(std::uint32_t intid, bool edge = false, std::uint8_t priority = 0xa0) {
        if (edge)
            gic.gicd_write(0xc00 + intid / 16 * 4, 4,
                           gic.gicd_read(0xc00 + intid / 16 * 4, 4) | 2u << (intid % 16 * 2));
        gic.gicd_write(0x400 + intid, 1, priority);
        gic.gicd_write(0x100 + intid / 32 * 4, 4, 1u << (intid % 32));
    }
    CpuModel& cpu(unsigned i = 0) { return *cpus[i]; }

    Irq spis[64];
    Vgic gic;
    std::vector<std::unique_ptr<CpuModel>> cpus;
};

}  // namespace proa::hv
