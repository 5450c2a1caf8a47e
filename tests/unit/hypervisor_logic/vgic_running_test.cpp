// Changes that meet an interrupt while a vCPU runs with it in a list register.
#include <gtest/gtest.h>

#include "hypervisor/vgic/vgic.hpp"

namespace proa::hv {
namespace {

constexpr std::uint64_t kSgiFrame = 0x1'0000;
constexpr std::uint32_t kTimer = abi::kVirtualTimerIntid, kOther = abi::kPhysicalTimerIntid;

class VgicRunning : public ::testing::Test {
  protected:
    VgicRunning() {
        Vgic::Config c;
        c.vcpus = 2;
        c.spis = 32;
        c.mpidr[1] = 1;
        gic.init(c, spis);
        gic.gicd_write(0, 4, 2);
        for (unsigned v = 0; v < 2; ++v) {
            const std::uint64_t frame = v * abi::kGicrStride + kSgiFrame;
            gic.gicr_write(frame + 0x80, 4, ~0u);
            gic.gicr_write(frame + 0x100, 4, 1u << kTimer | 1u << kOther);
        }
        gic.gicd_write(0x84, 4, ~0u);
        gic.gicd_write(0x104, 4, 1u << 8);  // 40
        (void)gic.take_kicks();
    }
    // vCPU 1 runs and has acknowledged what was in its first list register.
    void run_and_acknowledge() {
        gic.flush(1, file);
        (void)gic.take_kicks();
        ASSERT_EQ(file.used, 1u);
        file.lr[0] = (file.lr[0] & ~lr::Pending) | lr::Active;
    }
    void end() { file.lr[0] &= ~lr::Active; }
    void out_and_in() {
        gic.sync(1, file);
        gic.flush(1, file);
    }
    static constexpr std::uint64_t kSgi5To1 = 5ull << 24 | 0b10;

    Irq spis[32];
    Vgic gic;
    LrFile file;
};

TEST_F(VgicRunning, AnSgiSentAgainWhileActiveIsDeliveredAfterTheEoiWithoutAnotherExit) {
    gic.send_sgi(0, kSgi5To1);
    run_and_acknowledge();
    gic.send_sgi(0, kSgi5To1);
    EXPECT_EQ(gic.take_kicks(), 0b10u) << "the vCPU spins: nothing else would bring it out";
    out_and_in();
    EXPECT_EQ(file.lr[0] & (lr::Active | lr::Pending), lr::Active | lr::Pending);
    end();
    EXPECT_NE(file.lr[0] & lr::Pending, 0u);
    file.lr[0] = (file.lr[0] & ~lr::Pending) | lr::Active;
    end();
    out_and_in();
    EXPECT_EQ(file.used, 0u) << "two were sent, two came";
}

TEST_F(VgicRunning, AnSgiSentAgainBeforeItIsTakenIsOne) {
    gic.send_sgi(0, kSgi5To1);
    gic.flush(1, file);
    gic.send_sgi(0, kSgi5To1);
    out_and_in();
    file.lr[0] = (file.lr[0] & ~lr::Pending) | lr::Active;
    end();
    out_and_in();
    EXPECT_EQ(file.used, 0u);
}

TEST_F(VgicRunning, ALevelIsNeverPendingAndActiveAtOnce) {
    gic.set_private_line(1, kOther, true);
    run_and_acknowledge();
    out_and_in();
    EXPECT_EQ(file.lr[0] & (lr::Active | lr::Pending), lr::Active);
    EXPECT_NE(file.lr[0] & lr::Eoi, 0u);
}

TEST_F(VgicRunning, APrivateLevelThatFallsIsWithdrawn) {
    gic.set_private_line(1, kOther, true);
    gic.flush(1, file);
    (void)gic.take_kicks();
    gic.set_private_line(1, kOther, false);
    EXPECT_EQ(gic.take_kicks(), 0b10u);
    out_and_in();
    EXPECT_EQ(file.used, 0u);
}

TEST_F(VgicRunning, ClearingOrDisablingAnotherVcpusPendingInterruptTakesItBack) {
    gic.gicd_write(0x6000 + 40 * 8, 8, 1);
    for (const std::uint64_t reg : {0x284u, 0x184u}) {  // ICPENDR1, ICENABLER1
        gic.gicd_write(0x204, 4, 1u << 8);
        gic.flush(1, file);
        ASSERT_EQ(file.used, 1u);
        (void)gic.take_kicks();
        gic.gicd_write(reg, 4, 1u << 8);
        out_and_in();
        EXPECT_EQ(file.used, 0u) << std::hex << reg;
    }
}

// The virtual timer's line falls unseen, when the guest programs it anew: settle_timer() finds out.
TEST_F(VgicRunning, ATimerInterruptTakenBeforeAPreemptionDoesNotComeAgain) {
    gic.set_private_line(1, kTimer, true);
    run_and_acknowledge();
    gic.sync(1, file);                      // preempted in the handler, the timer's condition still true:
    gic.set_private_line(1, kTimer, true);  // the software timer of a vCPU that isn't loaded fires
    gic.flush(1, file);
    EXPECT_EQ(file.lr[0] & (lr::Active | lr::Pending), lr::Active);
    end();
    gic.sync(1, file);
    EXPECT_TRUE(gic.settle_timer(1, false)) << "the physical interrupt may not stay active";
    gic.flush(1, file);
    EXPECT_EQ(file.used, 0u);
}

TEST_F(VgicRunning, ATimerThatFiresAgainIsDeliveredAgain) {
    gic.set_private_line(1, kTimer, true);
    run_and_acknowledge();
    end();
    gic.sync(1, file);
    EXPECT_FALSE(gic.settle_timer(1, true));
    gic.flush(1, file);
    EXPECT_EQ(file.used, 1u);
    EXPECT_NE(file.lr[0] & lr::HW, 0u);
}

TEST_F(VgicRunning, ATimerInterruptDeactivatedBySoftwareIsDeactivatedPhysically) {
    gic.set_private_line(1, kTimer, true);
    run_and_acknowledge();
    gic.sync(1, file);
    gic.gicr_write(abi::kGicrStride + kSgiFrame + 0x380, 4, 1u << kTimer);
    EXPECT_EQ(gic.take_kicks() & 0b10u, 0b10u);
    EXPECT_TRUE(gic.settle_timer(1, true));
    EXPECT_FALSE(gic.settle_timer(1, true)) << "once";
}

}  // namespace
}  // namespace proa::hv
