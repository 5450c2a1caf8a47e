// What software does to interrupts that are under way, state that moves between hosts, and hostile register accesses.
#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "vgic_fixture.hpp"

namespace proa::hv {
namespace {

struct Recorder final : HwOps {
    std::vector<std::uint32_t> deactivated;
    std::map<std::uint32_t, bool> enabled;
    std::map<std::uint32_t, unsigned> routed;
    void enable(std::uint32_t i, bool on) override { enabled[i] = on; }
    void configure(std::uint32_t, bool) override {}
    void route(std::uint32_t i, unsigned vcpu) override { routed[i] = vcpu; }
    void deactivate(std::uint32_t i) override { deactivated.push_back(i); }
};

using VgicLife = VgicTest;

TEST_F(VgicLife, WhatWaitsOutsideIsNotHeldBackByLessUrgentActiveOnes) {
    make(1, 4);
    for (std::uint32_t i = 0; i < 3; ++i) {  // three nested, least urgent first
        enable(40 + i, true, static_cast<std::uint8_t>(0xc0 - 8 * i));
        gic.set_line(40 + i, true);
        cpu().enter();
        ASSERT_EQ(cpu().acknowledge(), 40 + i);
        cpu().exit();
    }
    enable(50, true, 0x10);
    enable(51, true, 0x20);
    gic.set_line(50, true);
    gic.set_line(51, true);
    cpu().enter();
    EXPECT_FALSE(cpu().maintenance()) << "one is pending in a register: nothing to do yet";
    ASSERT_EQ(cpu().acknowledge(), 50u);
    EXPECT_TRUE(cpu().maintenance()) << "51 is more urgent than what was interrupted: it needs a register now";
    cpu().exit();
    cpu().enter();
    cpu().eoi(50);
    EXPECT_EQ(cpu().acknowledge(), 51u);
}

TEST_F(VgicLife, EntryNeverAssertsTheMaintenanceInterruptByItself) {
    make(1, 4);
    std::mt19937 random(3);
    for (std::uint32_t i = 32; i < 96; ++i) enable(i, true, static_cast<std::uint8_t>(random() % 32 * 8));
    for (unsigned n = 0; n < 20'000; ++n) {
        gic.set_line(32 + random() % 64, random() % 2 != 0);
        cpu().enter();
        ASSERT_FALSE(cpu().maintenance()) << "the vCPU would never get anywhere";
        const std::uint32_t got = cpu().acknowledge();
        if (got != 1023 && random() % 3 != 0) cpu().eoi(got);
        cpu().exit();
        if (n % 64 == 0)  // so that not everything ends up active
            for (unsigned w = 4; w < 12; w += 4) gic.gicd_write(0x380 + w, 4, ~0u);
    }
}

TEST_F(VgicLife, APrivateLineThatFallsInAListRegisterIsWithdrawn) {
    make(1);
    gic.gicr_write(kSgiFrame + 0x100, 4, 1u << 30);
    gic.set_private_line(0, 30, true);
    cpu().enter();
    (void)gic.take_kicks();
    gic.set_private_line(0, 30, false);
    EXPECT_EQ(gic.take_kicks(), 1u);
    cpu().exit();
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 1023u);
}

// ICENABLER, ICPENDR and IROUTER written by one vCPU for an SPI that waits in another's list register.
TEST_F(VgicLife, DisablingFromAnotherVcpuTakesItOutOfTheListRegister) {
    make(2);
    enable(40, true);
    gic.set_line(40, true);
    cpu(0).enter();
    (void)gic.take_kicks();
    gic.gicd_write(0x180 + 4, 4, 1u << 8);
    EXPECT_EQ(gic.take_kicks(), 1u);
    cpu(0).exit();
    cpu(0).enter();
    EXPECT_EQ(cpu(0).acknowledge(), 1023u);
    gic.gicd_write(0x100 + 4, 4, 1u << 8);
    cpu(0).exit();
    cpu(0).enter();
    EXPECT_EQ(cpu(0).acknowledge(), 40u) << "disabling does not take the pending state";
}

TEST_F(VgicLife, ClearingPendingFromAnotherVcpuTakesTheEdge) {
    make(2);
    enable(40, true);
    gic.set_line(40, true);
    cpu(0).enter();
    (void)gic.take_kicks();
    gic.gicd_write(0x280 + 4, 4, 1u << 8);
    EXPECT_EQ(gic.take_kicks(), 1u);
    cpu(0).exit();
    EXPECT_EQ(gic.gicd_read(0x200 + 4, 4), 0u);
    cpu(0).enter();
    EXPECT_EQ(cpu(0).acknowledge(), 1023u);
}

TEST_F(VgicLife, ClearingPendingAfterItWasTakenChangesNothing) {
    make(2);
    enable(40, true);
    gic.set_line(40, true);
    cpu(0).enter();
    ASSERT_EQ(cpu(0).acknowledge(), 40u);
    gic.gicd_write(0x280 + 4, 4, 1u << 8);
    cpu(0).exit();
    EXPECT_EQ(gic.gicd_read(0x300 + 4, 4), 1u << 8) << "active stays";
    cpu(0).enter();
    cpu(0).eoi(40);
    cpu(0).exit();
    EXPECT_EQ(gic.gicd_read(0x300 + 4, 4), 0u);
}

TEST_F(VgicLife, AHardwareInterruptClearedInAListRegisterIsDeactivatedOnce) {
    Recorder hw;
    make(2, 4, &hw, 64);
    enable(45);
    gic.hw_fired(45);
    cpu(0).enter();
    gic.gicd_write(0x280 + 4, 4, 1u << 13);
    EXPECT_TRUE(hw.deactivated.empty()) << "the register may still be taken: not before it came back";
    cpu(0).exit();
    EXPECT_EQ(hw.deactivated, std::vector<std::uint32_t>{45});
    gic.hw_fired(45);
    cpu(0).enter();
    EXPECT_EQ(cpu(0).acknowledge(), 45u);
    cpu(0).eoi(45);
    cpu(0).exit();
    EXPECT_EQ(hw.deactivated.size(), 1u) << "the guest's EOI deactivates it in hardware";
}

TEST_F(VgicLife, RetargetingWhatWaitsInAListRegisterMovesIt) {
    make(2);
    enable(50, true);
    gic.set_line(50, true);
    cpu(0).enter();
    (void)gic.take_kicks();
    gic.gicd_write(0x6000 + 50 * 8, 8, 1);
    EXPECT_EQ(gic.take_kicks() & 1u, 1u);
    cpu(0).exit();
    cpu(0).enter();
    EXPECT_EQ(cpu(0).acknowledge(), 1023u);
    cpu(1).enter();
    EXPECT_EQ(cpu(1).acknowledge(), 50u);
}

TEST_F(VgicLife, TurningTheDistributorOffWithdrawsEverything) {
    make(1);
    enable(40);
    gic.set_line(40, true);
    cpu().enter();
    (void)gic.take_kicks();
    gic.gicd_write(0, 4, 0);
    EXPECT_EQ(gic.take_kicks(), 1u);
    cpu().exit();
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 1023u);
    gic.gicd_write(0, 4, 2);
    EXPECT_TRUE(gic.has_deliverable(0));
}

TEST_F(VgicLife, PendingWrittenBySoftwareIsDeliveredOnceThoughTheLineIsLow) {
    make(1);
    enable(40);
    gic.gicd_write(0x200 + 4, 4, 1u << 8);
    cpu().enter();
    EXPECT_EQ(cpu().acknowledge(), 40u);
    cpu().eoi(40);
    cpu().exit();
    EXPECT_FALSE(gic.has_deliverable(0));
}

TEST_F(VgicLife, PrivateInterruptsAreBankedByVcpu) {
    make(3);
    gic.gicr_write(1 * abi::kGicrStride + kSgiFrame + 0x100, 4, 1u << 27);
    for (unsigned v = 0; v < 3; ++v) gic.set_private_line(v, 27, true);
    EXPECT_EQ(gic.take_kicks(), 0b010u);
    EXPECT_FALSE(gic.has_deliverable(0));
    EXPECT_TRUE(gic.has_deliverable(1));
    EXPECT_TRUE(gic.in_flight(2, 27)) << "it waits there until it is enabled";
    EXPECT_EQ(gic.gicr_read(2 * abi::kGicrStride + kSgiFrame + 0x200, 4), 1u << 27);
}

TEST_F(VgicLife, EqualPrioritiesGoByNumberAndMoreUrgentOnesFirst) {
    make(1, 4);
    for (const std::uint32_t i : {45u, 41u, 43u}) {
        enable(i, true, 0x80);
        gic.set_line(i, true);
    }
    enable(60, true, 0x78);
    gic.set_line(60, true);
    gic.gicr_write(kSgiFrame + 0x400 + 3, 1, 0x80);
    gic.send_sgi(0, 3ull << 24 | 1);
    std::vector<std::uint32_t> order;
    for (unsigned n = 0; n < 5; ++n) {
        cpu().enter();
        order.push_back(cpu().acknowledge());
        cpu().eoi(order.back());
        cpu().exit();
    }
    EXPECT_EQ(order, (std::vector<std::uint32_t>{60, 3, 41, 43, 45}));
}

// --- state that moves ---------------------------------------------------------------------------------------------

struct Machine {
    explicit Machine(unsigned vcpus) {
        Vgic::Config c;
        c.vcpus = vcpus;
        c.spis = 64;
        for (unsigned i = 0; i < vcpus; ++i) c.mpidr[i] = i;
        gic.init(c, spis);
    }
    Irq spis[64];
    Vgic gic;
};

bool same(const abi::GicState& a, const abi::GicState& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

// Any life, then save: a second machine that loads it is in the same state, and delivers the same from there on.
TEST_F(VgicLife, StateSurvivesTheWayToAnotherMachine) {
    for (unsigned seed = 1; seed <= 40; ++seed) {
        cpus.clear();
        make(3, 2);
        std::mt19937 random(seed);
        for (unsigned n = 0; n < 2000; ++n) {
            const std::uint32_t spi = 32 + random() % 64;
            switch (random() % 10) {
                case 0: gic.set_line(spi, true); break;
                case 1: gic.set_line(spi, false); break;
                case 2: gic.send_sgi(random() % 3, (random() % 16ull) << 24 | random() % 8); break;
                case 3: gic.set_private_line(random() % 3, 30, random() % 2 != 0); break;
                case 4: enable(spi, random() % 2 != 0, static_cast<std::uint8_t>(random())); break;
                case 5:
                    gic.gicd_write(0x6000 + spi * 8ull, 8, random() % 4 == 3 ? 1ull << 31 : random() % 3);
                    break;
                case 6: gic.gicd_write(0x80 + random() % 0x380 / 4 * 4, 4, random()); break;
                case 7:
                    gic.gicr_write(
                        random() % 3 * abi::kGicrStride + kSgiFrame + 0x80 + random() % 0x380 / 4 * 4, 4,
                        random());
                    break;
                default: {
                    CpuModel& c = cpu(random() % 3);
                    c.enter();
                    const std::uint32_t got = c.acknowledge();
                    if (got != 1023 && random() % 2 == 0) c.eoi(got);
                    c.exit();
                }
            }
        }
        abi::GicState s, again;
        gic.save(s);
        Machine other(3);
        ASSERT_TRUE(other.gic.load(s));
        other.gic.save(again);
        ASSERT_TRUE(same(s, again)) << "seed " << seed;
        EXPECT_EQ(other.gic.take_kicks(), 0b111u) << "everyone looks for himself";
        for (unsigned v = 0; v < 3; ++v) {
            CpuModel here(gic, v, 16), there(other.gic, v, 16);
            for (unsigned n = 0; n < 8; ++n) {
                here.enter();
                there.enter();
                ASSERT_EQ(there.file().used, here.file().used) << "seed " << seed << " vCPU " << v;
                std::multiset<std::uint64_t> a(here.file().lr, here.file().lr + here.file().used),
                    b(there.file().lr, there.file().lr + there.file().used);
                ASSERT_EQ(a, b) << "seed " << seed << " vCPU " << v;
                const std::uint32_t got = here.acknowledge();
                ASSERT_EQ(there.acknowledge(), got);
                if (got != 1023) {
                    here.eoi(got);
                    there.eoi(got);
                }
                here.exit();
                there.exit();
            }
        }
    }
}

TEST_F(VgicLife, ArbitraryStateIsRefusedWholeOrCannotDoHarm) {
    std::mt19937 random(77);
    unsigned taken = 0;
    for (unsigned n = 0; n < 3000; ++n) {
        Machine m(2);
        abi::GicState before, s;
        m.gic.save(before);
        auto* bytes = reinterpret_cast<std::uint8_t*>(&s);
        for (std::size_t i = 0; i < sizeof(s); ++i) bytes[i] = static_cast<std::uint8_t>(random());
        s.version = random() % 8 == 0 ? s.version : abi::kStateVersion;
        s.spi_count = random() % 8 == 0 ? s.spi_count : 64;
        s.vcpu_count = random() % 8 == 0 ? s.vcpu_count : 2;
        if (random() % 2 == 0)
            for (auto& q : s.spis) q.target = random() % 4 == 0 ? 0xffff : random() % 2;
        if (!m.gic.load(s)) {
            abi::GicState after;
            m.gic.save(after);
            ASSERT_TRUE(same(before, after));
            continue;
        }
        ++taken;
        CpuModel c[2] = {{m.gic, 0, 4}, {m.gic, 1, 4}};
        for (unsigned k = 0; k < 300; ++k) {
            CpuModel& v = c[random() % 2];
            v.enter();
            ASSERT_LE(v.used(), 4u);
            if (const std::uint32_t got = v.acknowledge(); got != 1023) v.eoi(got);
            v.exit();
        }
    }
    EXPECT_GT(taken, 100u);
}

// --- hostile accesses ---------------------------------------------------------------------------------------------

// Every offset, width and alignment a data abort can carry, with vCPUs running in between. What must hold: list
// registers never name one interrupt twice, and each names one that exists.
TEST_F(VgicLife, NoAccessBreaksTheListRegisters) {
    for (unsigned seed = 1; seed <= 4; ++seed) {
        cpus.clear();
        Recorder hw;
        make(3, 4, seed % 2 == 0 ? &hw : nullptr, seed % 2 == 0 ? 32 : 0);
        std::mt19937_64 random(seed);
        bool inside[3] = {};
        for (unsigned n = 0; n < 150'000; ++n) {
            const unsigned size = 1u << random() % 4;
            // Mostly where registers are, any alignment (Normal memory at stage 1 allows it), the frame's ends too.
            const std::uint64_t d = random() % 4 == 0   ? random() % 0x1'0000
                                    : random() % 2 == 0 ? random() % 0x1000
                                                        : 0x6000 + random() % 0x400;
            const std::uint64_t r =
                random() % 4 * abi::kGicrStride + random() % 2 * kSgiFrame + random() % 0x1000;
            switch (random() % 6) {
                case 0: gic.gicd_write(d, size, random()); break;
                case 1: gic.gicr_write(r, size, random()); break;
                case 2: (void)gic.gicd_read(d, size); break;
                case 3: (void)gic.gicr_read(r, size); break;
                case 4: gic.send_sgi(random() % 3, random()); break;
                default: gic.set_line(static_cast<std::uint32_t>(random() % 200), random() % 2 != 0); break;
            }
            if (n % 4 != 0) continue;
            const unsigned v = random() % 3;
            if (inside[v]) {
                if (const std::uint32_t got = cpu(v).acknowledge(); got != 1023 && random() % 4 != 0)
                    cpu(v).eoi(got);
                if (random() % 16 == 0) cpu(v).eoi(static_cast<std::uint32_t>(random() % 1024));  // of anything
                cpu(v).exit();
            } else {
                cpu(v).enter();
            }
            inside[v] = !inside[v];
            std::set<std::uint32_t> spis_listed;
            for (unsigned i = 0; i < 3; ++i) {
                if (!inside[i]) continue;
                ASSERT_LE(cpu(i).used(), 4u);
                std::set<std::uint32_t> mine;
                for (unsigned k = 0; k < cpu(i).used(); ++k) {
                    const std::uint32_t intid = lr::vintid(cpu(i).file().lr[k]);
                    ASSERT_LT(intid, 96u);
                    ASSERT_TRUE((intid < 32 ? mine : spis_listed).insert(intid).second)
                        << intid << " listed twice";
                }
            }
            ASSERT_EQ(gic.take_kicks() >> 3, 0u);
        }
        gic.reset();
        for (unsigned v = 0; v < 3; ++v) EXPECT_FALSE(gic.has_deliverable(v));
    }
}

TEST_F(VgicLife, ByteAndWordAccessesSeeTheSameRegisters) {
    make(1);
    std::mt19937 random(9);
    for (std::uint32_t i = 32; i < 96; ++i) {
        gic.gicd_write(0x400 + i, 1, random());
        gic.gicd_write(0x6000 + i * 8ull, 8, 0);
    }
    for (unsigned w = 4; w < 12; w += 4) gic.gicd_write(0x100 + w, 4, random());
    for (const std::uint64_t base : {0x80ull, 0x100ull, 0x180ull, 0x400ull, 0xc00ull, 0x6000ull})
        for (std::uint64_t at = base; at < base + 0x60; at += 8) {
            const std::uint64_t whole = gic.gicd_read(at, 8);
            for (const unsigned size : {1u, 2u, 4u})
                for (unsigned o = 0; o < 8; o += size)
                    EXPECT_EQ(gic.gicd_read(at + o, size), whole >> (8 * o) & ((1ull << (8 * size)) - 1))
                        << std::hex << at + o << " size " << size;
        }
}

TEST_F(VgicLife, WhatIsOutsideAFrameReadsZeroAndIgnoresWrites) {
    make(1);
    for (const std::uint64_t at : {0x80ull, 0x100ull, 0x200ull, 0x300ull, 0x400ull, 0xc00ull}) {
        gic.gicd_write(at, 4, ~0u);  // private interrupts are the redistributor's
        EXPECT_EQ(gic.gicd_read(at, 4), 0u) << std::hex << at;
    }
    for (const std::uint64_t at : {0x100 + 12ull, 0x400 + 96ull, 0x6000 + 96 * 8ull}) {
        gic.gicd_write(at, 4, ~0u);  // SPIs this machine lacks
        EXPECT_EQ(gic.gicd_read(at, 4), 0u) << std::hex << at;
    }
    gic.gicr_write(kSgiFrame + 0x104, 4, ~0u);
    EXPECT_EQ(gic.gicr_read(kSgiFrame + 0x104, 4), 0u);
    EXPECT_EQ(gic.gicr_read(7 * abi::kGicrStride + 8, 8), 0u) << "no such vCPU";
}

TEST_F(VgicLife, RedistributorsNameTheirVcpusAndTheLastOne) {
    make(3);
    for (unsigned v = 0; v < 3; ++v) {
        const std::uint64_t typer = gic.gicr_read(v * abi::kGicrStride + 8, 8);
        EXPECT_EQ(typer >> 32, v) << "affinity";
        EXPECT_EQ(typer >> 8 & 0xffff, v) << "processor number";
        EXPECT_EQ((typer >> 4 & 1) != 0, v == 2) << "Last";
        EXPECT_EQ(gic.gicr_read(v * abi::kGicrStride + 8, 4) | gic.gicr_read(v * abi::kGicrStride + 12, 4)
                                                                   << 32,
                  typer);
        EXPECT_EQ(gic.gicr_read(v * abi::kGicrStride + 0xffe8, 4) >> 4 & 0xf, 3u) << "GICv3";
        gic.gicr_write(v * abi::kGicrStride + 0x14, 4, 2);
        EXPECT_EQ(gic.gicr_read(v * abi::kGicrStride + 0x14, 4), 6u) << "asleep, and its children";
        gic.gicr_write(v * abi::kGicrStride + 0x14, 4, 0);
        EXPECT_EQ(gic.gicr_read(v * abi::kGicrStride + 0x14, 4), 0u);
    }
    EXPECT_EQ(gic.gicd_read(4, 4) & 0x1f, 2u) << "96 INTIDs";
}

// Levels at random, delivered by random vCPUs: whenever everything is quiet, what is up is seen and nothing else.
TEST_F(VgicLife, RandomLevelsAreSeenExactlyWhileTheyAreUp) {
    make(2, 2);
    std::mt19937 random(21);
    std::map<std::uint32_t, bool> up;
    for (std::uint32_t i = 32; i < 64; ++i) {
        enable(i, false, static_cast<std::uint8_t>(random() % 20 * 8));
        gic.gicd_write(0x6000 + i * 8ull, 8, i % 2);
    }
    for (unsigned n = 0; n < 60'000; ++n) {
        const std::uint32_t i = 32 + random() % 32;
        up[i] = random() % 2 != 0;
        gic.set_line(i, up[i]);
        const unsigned v = random() % 2;
        cpu(v).enter();
        if (const std::uint32_t got = cpu(v).acknowledge(); got != 1023) {
            ASSERT_TRUE(up[got]) << got << " is down";
            ASSERT_EQ(got % 2, v) << "not this vCPU's";
            if (random() % 2 == 0) {
                gic.set_line(got, false);  // the handler quiets its device
                up[got] = false;
            }
            cpu(v).eoi(got);
        }
        cpu(v).exit();
    }
    for (const unsigned v : {0u, 1u}) {
        std::set<std::uint32_t> seen, expected;
        for (const auto& [i, level] : up)
            if (level && i % 2 == v) expected.insert(i);
        for (unsigned n = 0; n < 100; ++n) {
            cpu(v).enter();
            const std::uint32_t got = cpu(v).acknowledge();
            if (got != 1023) {
                seen.insert(got);
                gic.set_line(got, false);
                cpu(v).eoi(got);
            }
            cpu(v).exit();
        }
        EXPECT_EQ(seen, expected);
    }
}

}  // namespace
}  // namespace proa::hv
