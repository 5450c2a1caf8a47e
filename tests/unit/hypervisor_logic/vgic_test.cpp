// The software GIC against what IHI 0069 says a vCPU must see.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "vgic_fixture.hpp"

namespace proa::hv {
namespace {

TEST_F(VgicTest, AnEdgeIsDeliveredExactlyOnce) {
    make(1);
    enable(40, true);
    gic.set_line(40, true);
    EXPECT_EQ(gic.take_kicks(), 1u);
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 40u);
    cpu().eoi(40);
    cpu().exit();
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 1023u);
}

TEST_F(VgicTest, ALevelIsDeliveredAgainAfterEoiWhileTheLineIsUp) {
    make(1);
    enable(40);
    gic.set_line(40, true);
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 40u);
    EXPECT_TRUE(cpu().eoi(40)) << "the EOI must come back to the hypervisor";
    cpu().exit();
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 40u);
    gic.set_line(40, false);
    cpu().eoi(40);
    cpu().exit();
    EXPECT_FALSE(gic.has_deliverable(0));
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 1023u);
}

TEST_F(VgicTest, ALevelThatFallsBeforeItIsTakenIsWithdrawn) {
    make(1);
    enable(40);
    gic.set_line(40, true);
    cpu().enter();
    (void)gic.take_kicks();
    gic.set_line(40, false);
    EXPECT_EQ(gic.take_kicks(), 1u) << "the vCPU must come out";
    cpu().exit();
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 1023u);
}

TEST_F(VgicTest, ADisabledInterruptWaitsUntilItIsEnabled) {
    make(1);
    gic.gicd_write(0x400 + 41, 1, 0xa0);
    gic.set_line(41, true);
    EXPECT_FALSE(gic.has_deliverable(0));
    enable(41);
    EXPECT_TRUE(gic.has_deliverable(0));
}

TEST_F(VgicTest, MoreThanTheListRegistersHoldAreAllDeliveredMostUrgentFirst) {
    make(1, 4);
    for (std::uint32_t i = 32; i < 72; ++i) {
        enable(i, true, static_cast<std::uint8_t>((72 - i) % 8 * 8));
        gic.set_line(i, true);
    }
    unsigned last = 0;
    std::map<std::uint32_t, int> seen;
    for (unsigned n = 0; n < 40; ++n) {
        cpu().enter();
        EXPECT_EQ((cpu().file().hcr & ich_hcr::Npie) != 0, n < 36)
            << "the last one taken must be signalled while more wait";
        const std::uint32_t i = cpu().acknowledge();
        ASSERT_NE(i, 1023u);
        ++seen[i];
        const unsigned priority = (72 - i) % 8 * 8;
        EXPECT_GE(priority, last);
        last = priority;
        cpu().eoi(i);
        cpu().exit();
    }
    EXPECT_EQ(seen.size(), 40u);
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 1023u);
}

TEST_F(VgicTest, ActiveInterruptsBeyondTheListRegistersAreDeactivatedByCount) {
    make(1, 2);
    std::vector<std::uint32_t> taken;
    for (std::uint32_t i = 0; i < 4; ++i) {  // each more urgent than the one before: nested
        enable(40 + i, true, static_cast<std::uint8_t>(0xa0 - 8 * i));
        gic.set_line(40 + i, true);
        cpu().enter();
        taken.push_back(cpu().acknowledge());
        EXPECT_EQ(taken.back(), 40 + i);
        cpu().exit();
    }
    for (; !taken.empty(); taken.pop_back()) {
        cpu().enter();
        cpu().eoi(taken.back());
        cpu().exit();
        EXPECT_EQ(gic.gicd_read(0x300 + 4, 4) >> (taken.back() - 32) & 1, 0u)
            << taken.back() << " must be inactive now";
    }
}

TEST_F(VgicTest, AnSgiReachesItsTargetsAndNobodyElse) {
    make(4);
    gic.send_sgi(0, 5ull << 24 | 0b1010);
    EXPECT_EQ(gic.take_kicks(), 0b1010u);
    for (unsigned i = 0; i < 4; ++i) {
        cpu(i).enter();
        EXPECT_EQ(cpu(i).acknowledge(), i == 1 || i == 3 ? 5u : 1023u);
    }
    gic.send_sgi(2, 1ull << 40 | 6ull << 24);  // all but self
    EXPECT_EQ(gic.take_kicks() & 0b0100u, 0u);
}

TEST_F(VgicTest, RetargetingAPendingSpiMovesIt) {
    make(2);
    enable(50, true);
    gic.set_line(50, true);
    EXPECT_TRUE(gic.has_deliverable(0));
    gic.gicd_write(0x6000 + 50 * 8, 8, 1);
    EXPECT_FALSE(gic.has_deliverable(0));
    EXPECT_TRUE(gic.has_deliverable(1));
}

struct Recorder final : HwOps {
    std::vector<std::uint32_t> enabled, deactivated;
    void enable(std::uint32_t i, bool on) override {
        if (on) enabled.push_back(i);
    }
    void configure(std::uint32_t, bool) override {}
    void route(std::uint32_t, unsigned) override {}
    void deactivate(std::uint32_t i) override { deactivated.push_back(i); }
};

TEST_F(VgicTest, AHardwareInterruptCarriesItsPhysicalNumberAndIsDroppedWhenClearedBySoftware) {
    Recorder hw;
    make(1, 4, &hw, 64);
    enable(45);
    EXPECT_EQ(hw.enabled, std::vector<std::uint32_t>{45});
    gic.hw_fired(45);
    cpu().enter();
    EXPECT_NE(cpu().file().lr[0] & lr::HW, 0u);
    EXPECT_EQ(cpu().file().lr[0] >> 32 & 0x1fff, 45u);
    cpu().exit();
    gic.gicd_write(0x280 + 4, 4, 1u << 13);
    EXPECT_EQ(hw.deactivated, std::vector<std::uint32_t>{45});
}

TEST_F(VgicTest, StateSavedMidFlightGoesOnAfterLoad) {
    make(2);
    enable(40);
    enable(41, true);
    gic.gicd_write(0x6000 + 41 * 8, 8, 1);
    gic.set_line(40, true);
    gic.set_line(41, true);
    gic.send_sgi(0, 3ull << 24 | 0b10);
    cpu(0).enter();
    ASSERT_EQ(cpu(0).acknowledge(), 40u);
    cpu(0).exit();
    abi::GicState s;
    gic.save(s);

    Irq other_spis[64];
    Vgic other;
    Vgic::Config c;
    c.vcpus = 2;
    c.spis = 64;
    c.mpidr[1] = 1;
    other.init(c, other_spis);
    ASSERT_TRUE(other.load(s));
    CpuModel first(other, 0, 4), second(other, 1, 4);
    first.enter();
    EXPECT_EQ(first.acknowledge(), 1023u) << "40 is active already";
    EXPECT_TRUE(first.eoi(40));
    first.exit();
    first.enter();
    EXPECT_EQ(first.acknowledge(), 40u) << "its line is still up";
    second.enter();
    std::vector<std::uint32_t> got{second.acknowledge()};
    second.eoi(got[0]);
    got.push_back(second.acknowledge());
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got, (std::vector<std::uint32_t>{3, 41}));
}

TEST_F(VgicTest, StateThatDoesNotFitIsRefused) {
    make(2);
    abi::GicState s;
    gic.save(s);
    auto bad = s;
    bad.spi_count = 32;
    EXPECT_FALSE(gic.load(bad));
    bad = s;
    bad.spis[3].target = 7;
    EXPECT_FALSE(gic.load(bad));
    bad = s;
    bad.version = 99;
    EXPECT_FALSE(gic.load(bad));
    EXPECT_TRUE(gic.load(s));
}

TEST_F(VgicTest, RegistersAnswerEveryWidthAndOffsetWithoutHarm) {
    make(3);
    std::mt19937 random(7);
    for (unsigned n = 0; n < 200'000; ++n) {
        const unsigned size = 1u << random() % 4;
        const std::uint64_t d = random() % 0x1'0000 & ~static_cast<std::uint64_t>(size - 1);
        const std::uint64_t r = random() % (4 * 0x2'0000) & ~static_cast<std::uint64_t>(size - 1);
        if (random() % 2 != 0) {
            gic.gicd_write(d, size, random());
            gic.gicr_write(r, size, random());
        } else {
            (void)gic.gicd_read(d, size);
            (void)gic.gicr_read(r, size);
        }
        if (n % 16 == 0) {
            cpu(n / 16 % 3).exit();
            cpu(n / 16 % 3).enter();
        }
    }
}

// Random life against a reference: every edge is delivered once and only while enabled.
TEST_F(VgicTest, RandomEdgesAreNeitherLostNorRepeated) {
    make(2, 2);
    std::mt19937 random(11);
    std::map<std::uint32_t, bool> latched;
    for (std::uint32_t i = 32; i < 64; ++i) enable(i, true, static_cast<std::uint8_t>(random() % 20 * 8));
    for (std::uint32_t i = 32; i < 64; ++i) gic.gicd_write(0x6000 + i * 8ull, 8, i % 2);
    for (unsigned n = 0; n < 100'000; ++n) {
        const std::uint32_t i = 32 + random() % 32;
        if (random() % 2 == 0) {
            gic.set_line(i, true);
            gic.set_line(i, false);
            latched[i] = true;
        }
        CpuModel& c = cpu(random() % 2);
        c.enter();
        if (const std::uint32_t got = c.acknowledge(); got != 1023) {
            EXPECT_TRUE(latched[got]) << got << " came though nothing raised it";
            latched[got] = false;
            c.eoi(got);
        }
        c.exit();
    }
    for (unsigned n = 0; n < 64; ++n)
        for (unsigned k = 0; k < 2; ++k) {
            cpu(k).enter();
            if (const std::uint32_t got = cpu(k).acknowledge(); got != 1023) {
                latched[got] = false;
                cpu(k).eoi(got);
            }
            cpu(k).exit();
        }
    for (const auto& [i, waiting] : latched) EXPECT_FALSE(waiting) << i << " was lost";
}

}  // namespace
}  // namespace proa::hv
