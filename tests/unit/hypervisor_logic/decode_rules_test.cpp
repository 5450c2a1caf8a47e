// Abort syndromes, PSCI's whole table, the CPU policy field by field, PCI configuration space against random accesses.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "hypervisor/abi/idregs_names.hpp"
#include "hypervisor/arch/syndrome.hpp"
#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/pci/config.hpp"
#include "hypervisor/psci/psci.hpp"

namespace proa::hv {
namespace {

// Permission fault at level 3, on a walk or not, WnR or not; QEMU reports a walk's level as 1 (0x0d).
TEST(Abort, AStageOneWalkThatLacksPermissionIsAWrite) {
    constexpr std::uint64_t kWalk = 1 << 7, kWrite = 1 << 6;
    for (const std::uint64_t level : {0, 1, 2, 3}) {
        EXPECT_TRUE(Abort{0x0c | level | kWalk}.wants_write());
        EXPECT_TRUE(Abort{0x0c | level | kWrite}.wants_write());
        EXPECT_TRUE(Abort{0x0c | level | kWrite | kWalk}.wants_write());
        EXPECT_FALSE(Abort{0x0c | level}.wants_write()) << "a read";
        EXPECT_FALSE(Abort{0x04 | level | kWalk}.wants_write()) << "a table that is not mapped";
    }
}

TEST(Abort, EveryFaultStatusIsOneKindAtMost) {
    for (std::uint64_t status = 0; status < 64; ++status) {
        const Abort a{status};
        EXPECT_EQ(a.translation(), status >= 0x04 && status <= 0x07) << status;
        EXPECT_EQ(a.access_flag(), status >= 0x08 && status <= 0x0b) << status;
        EXPECT_EQ(a.permission(), status >= 0x0c && status <= 0x0f) << status;
    }
}

TEST(Abort, LoadsExtendAsTheInstructionSays) {
    EXPECT_EQ(loaded(0x1'80, 1, false, false), 0x80u);                                 // ldrb w
    EXPECT_EQ(loaded(0x80, 1, true, false), 0xffff'ff80u);                             // ldrsb w
    EXPECT_EQ(loaded(0x80, 1, true, true), 0xffff'ffff'ffff'ff80u);                    // ldrsb x
    EXPECT_EQ(loaded(0x7f, 1, true, true), 0x7fu);                                     // ldrsb x
    EXPECT_EQ(loaded(0xdead'8000, 2, true, true), 0xffff'ffff'ffff'8000u);             // ldrsh x
    EXPECT_EQ(loaded(0x5'8000'0000, 4, true, true), 0xffff'ffff'8000'0000u);           // ldrsw
    EXPECT_EQ(loaded(0x5'8000'0000, 4, false, false), 0x8000'0000u);                   // ldr w
    EXPECT_EQ(loaded(0x8000'0000'0000'0001, 8, false, true), 0x8000'0000'0000'0001u);  // ldr x
    EXPECT_EQ(loaded(~0ull, 8, true, true), ~0ull);
}

TEST(PsciTable, IsTheSpecifications) {
    const std::map<std::uint32_t, PsciCall> calls{
        {0x8400'0000, PsciCall::Version},         {0x8400'0001, PsciCall::CpuSuspend},
        {0xc400'0001, PsciCall::CpuSuspend},      {0x8400'0002, PsciCall::CpuOff},
        {0x8400'0003, PsciCall::CpuOn},           {0xc400'0003, PsciCall::CpuOn},
        {0x8400'0004, PsciCall::AffinityInfo},    {0xc400'0004, PsciCall::AffinityInfo},
        {0x8400'0006, PsciCall::MigrateInfoType}, {0x8400'0008, PsciCall::SystemOff},
        {0x8400'0009, PsciCall::SystemReset},     {0x8400'000a, PsciCall::Features},
        {0x8400'0012, PsciCall::SystemReset2},    {0xc400'0012, PsciCall::SystemReset2},
        {0x8000'0000, PsciCall::SmcccVersion},    {0x8000'0001, PsciCall::SmcccFeatures},
    };
    std::set<PsciCall> reached;
    for (const std::uint32_t range : {0x8000'0000u, 0xc000'0000u, 0x8400'0000u, 0xc400'0000u, 0x8600'0000u})
        for (std::uint32_t n = 0; n < 0x1'0000; ++n) {
            const auto it = calls.find(range + n);
            const PsciCall expected = it != calls.end() ? it->second : PsciCall::NotSupported;
            const PsciCall got = decode_psci(range + n, 0, 0, 0).call;
            ASSERT_EQ(got, expected) << std::hex << range + n;
            reached.insert(got);
        }
    EXPECT_EQ(reached.size(), static_cast<std::size_t>(PsciCall::NotSupported) + 1)
        << "a call nothing decodes to";
}

TEST(PsciTable, OnlyTheLowWordNamesTheFunction) {
    EXPECT_EQ(decode_psci(0xffff'ffff'8400'0000, 0, 0, 0).call, PsciCall::Version);
    const PsciRequest r = decode_psci(0xc400'0003, ~0ull, ~0ull, ~0ull);
    for (const std::uint64_t a : r.args) EXPECT_EQ(a, ~0ull);
    for (const std::uint64_t a : decode_psci(0x8400'0003, ~0ull, ~0ull, ~0ull).args) EXPECT_EQ(a, 0xffff'ffffu);
}

// --- CPU policy ---------------------------------------------------------------------------------------------------

struct Register {
    std::uint64_t abi::CpuPolicy::*at;
    unsigned crm, op2, word;
};
constexpr Register kRegisters[] = {
    {&abi::CpuPolicy::id_aa64pfr0_el1, 4, 0, 5},   {&abi::CpuPolicy::id_aa64pfr1_el1, 4, 1, 6},
    {&abi::CpuPolicy::id_aa64zfr0_el1, 4, 4, 7},   {&abi::CpuPolicy::id_aa64smfr0_el1, 4, 5, 8},
    {&abi::CpuPolicy::id_aa64dfr0_el1, 5, 0, 9},   {&abi::CpuPolicy::id_aa64dfr1_el1, 5, 1, 10},
    {&abi::CpuPolicy::id_aa64isar0_el1, 6, 0, 11}, {&abi::CpuPolicy::id_aa64isar1_el1, 6, 1, 12},
    {&abi::CpuPolicy::id_aa64isar2_el1, 6, 2, 13}, {&abi::CpuPolicy::id_aa64mmfr0_el1, 7, 0, 14},
    {&abi::CpuPolicy::id_aa64mmfr1_el1, 7, 1, 15}, {&abi::CpuPolicy::id_aa64mmfr2_el1, 7, 2, 16},
};

abi::CpuPolicy random_host(std::mt19937_64& random) {
    abi::CpuPolicy p{};
    p.version = abi::kStateVersion;
    p.midr_el1 = random();
    p.ctr_el0 = random();
    p.dczid_el0 = random();
    p.cntfrq_el0 = random();
    for (const Register& r : kRegisters) p.*r.at = random();
    return p;
}

TEST(CpuPolicyRules, WhateverTheHostAGuestSeesNoHiddenFeature) {
    struct Hidden {
        std::uint64_t abi::CpuPolicy::*at;
        unsigned shift;
        const char* what;
    };
    using P = abi::CpuPolicy;
    const Hidden hidden[] = {
        {&P::id_aa64pfr0_el1, 8, "EL2"},        {&P::id_aa64pfr0_el1, 12, "EL3"},
        {&P::id_aa64pfr0_el1, 28, "RAS"},       {&P::id_aa64pfr0_el1, 32, "SVE"},
        {&P::id_aa64pfr0_el1, 40, "MPAM"},      {&P::id_aa64pfr0_el1, 44, "AMU"},
        {&P::id_aa64pfr1_el1, 8, "MTE"},        {&P::id_aa64pfr1_el1, 24, "SME"},
        {&P::id_aa64pfr1_el1, 28, "RNDR_trap"}, {&P::id_aa64dfr0_el1, 8, "PMU"},
        {&P::id_aa64dfr0_el1, 4, "trace"},      {&P::id_aa64dfr0_el1, 32, "SPE"},
        {&P::id_aa64dfr0_el1, 44, "TRBE"},      {&P::id_aa64isar0_el1, 24, "TME"},
        {&P::id_aa64isar2_el1, 0, "WFxT"},      {&P::id_aa64mmfr0_el1, 60, "ECV"},
        {&P::id_aa64mmfr0_el1, 56, "FGT"},      {&P::id_aa64mmfr1_el1, 8, "VH"},
        {&P::id_aa64mmfr1_el1, 16, "LOR"},      {&P::id_aa64mmfr2_el1, 24, "NV"},
    };
    std::mt19937_64 random(1);
    for (unsigned n = 0; n < 200; ++n) {
        const abi::CpuPolicy p = sanitize(random_host(random));
        for (const Hidden& h : hidden) EXPECT_EQ(p.*h.at >> h.shift & 0xf, 0u) << h.what;
        EXPECT_EQ(p.id_aa64zfr0_el1 | p.id_aa64smfr0_el1 | p.id_aa64dfr1_el1, 0u);
        EXPECT_EQ(p.id_aa64pfr0_el1 & 0xff, 0x11u);
        EXPECT_FALSE(check(p, p).found);
    }
}

TEST(CpuPolicyRules, SanitizingTwiceChangesNothing) {
    std::mt19937_64 random(2);
    for (unsigned n = 0; n < 200; ++n) {
        const abi::CpuPolicy once = sanitize(random_host(random)), twice = sanitize(once);
        for (const Register& r : kRegisters) EXPECT_EQ(once.*r.at, twice.*r.at);
    }
}

// One field of one register more than the host has: refused, and the answer names that field.
TEST(CpuPolicyRules, EveryFieldBeyondTheHostIsRefusedByName) {
    std::mt19937_64 random(3);
    for (unsigned n = 0; n < 20; ++n) {
        const abi::CpuPolicy host = sanitize(random_host(random));
        for (const Register& r : kRegisters)
            for (unsigned shift = 0; shift < 64; shift += 4) {
                const bool is_signed = (r.word == 5 && (shift == 16 || shift == 20)) ||
                                       (r.word == 14 && (shift == 24 || shift == 28));
                const auto most = [&](std::uint64_t v) { return is_signed ? v ^ 8 : v; };
                const std::uint64_t have = host.*r.at >> shift & 0xf;
                for (std::uint64_t want = 0; want < 16; ++want) {
                    abi::CpuPolicy guest = host;
                    guest.*r.at = (guest.*r.at & ~(0xfull << shift)) | want << shift;
                    const PolicyMismatch m = check(guest, host);
                    ASSERT_EQ(m.found, most(want) > most(have)) << "word " << r.word << " shift " << shift;
                    if (!m.found) continue;
                    ASSERT_EQ(m.word, r.word);
                    ASSERT_EQ(m.shift, shift);
                    ASSERT_FALSE(m.whole);
                    ASSERT_FALSE(abi::feature_name(m.word, m.shift, m.whole).empty());
                }
            }
    }
}

TEST(CpuPolicyRules, RegistersComparedWholeAreNamedWhole) {
    std::mt19937_64 random(4);
    const abi::CpuPolicy host = sanitize(random_host(random));
    std::uint64_t abi::CpuPolicy::*const whole[] = {&abi::CpuPolicy::midr_el1, &abi::CpuPolicy::ctr_el0,
                                                    &abi::CpuPolicy::dczid_el0, &abi::CpuPolicy::cntfrq_el0};
    const char* const names[] = {"MIDR_EL1", "CTR_EL0", "DCZID_EL0", "CNTFRQ_EL0"};
    for (unsigned i = 0; i < 4; ++i) {
        abi::CpuPolicy guest = host;
        guest.*whole[i] ^= 1;
        const PolicyMismatch m = check(guest, host);
        ASSERT_TRUE(m.found);
        EXPECT_EQ(abi::feature_name(m.word, m.shift, m.whole), names[i]);
    }
    abi::CpuPolicy guest = host;
    guest.version = abi::kStateVersion + 1;
    EXPECT_TRUE(check(guest, host).found);
}

TEST(CpuPolicyRules, TrappedReadsShowThePolicyAndZeroElsewhere) {
    std::mt19937_64 random(5);
    const abi::CpuPolicy p = sanitize(random_host(random));
    for (unsigned crm = 0; crm < 16; ++crm)
        for (unsigned op2 = 0; op2 < 8; ++op2) {
            std::uint64_t expected = 0;
            for (const Register& r : kRegisters)
                if (r.crm == crm && r.op2 == op2) expected = p.*r.at;
            EXPECT_EQ(read_id_register(p, crm, op2), expected) << crm << " " << op2;
        }
}

// --- PCI ----------------------------------------------------------------------------------------------------------

TEST(PciConfigRules, AHeaderLinuxAccepts) {
    PciConfig c;
    c.init(abi::kPciSlotDevice);
    EXPECT_EQ(c.read(0, 4), abi::kPciSlotDevice << 16 | abi::kPciVendor);
    EXPECT_EQ(c.read(0xe, 1), 0u) << "type 0, one function";
    EXPECT_EQ(c.read(0x34, 1), 0u) << "no capabilities";
    EXPECT_EQ(c.read(0x3d, 1), 1u) << "INTA";
    EXPECT_EQ(c.read(0x10, 4) & 0xf, 0u) << "32-bit memory, not prefetchable";
    EXPECT_EQ(c.read(0xb, 1), 0x08u) << "base system peripheral";
    for (unsigned bar = 0x14; bar < 0x28; bar += 4) {
        c.write(bar, 4, ~0u);
        EXPECT_EQ(c.read(bar, 4), 0u) << "BAR at " << bar << " does not exist";
    }
}

TEST(PciConfigRules, ADeviceThatDoesNotDecodeAnswersNothing) {
    PciConfig c;
    c.init(abi::kPciSlotDevice);
    c.write(0x10, 4, 0x1000'0000);
    std::uint64_t offset;
    EXPECT_FALSE(c.decodes(0x1000'0000, offset)) << "memory space is off after reset";
    c.write(4, 2, 2);
    EXPECT_TRUE(c.decodes(0x1000'0000 + abi::kBarSize - 8, offset));
    EXPECT_FALSE(c.decodes(0x1000'0000 + abi::kBarSize, offset));
    EXPECT_FALSE(c.decodes(0x1'1000'0000, offset)) << "above 4 GiB";
    c.write(4, 2, 0);
    EXPECT_FALSE(c.decodes(0x1000'0000, offset));
}

TEST(PciConfigRules, OnlyTheFallOfBusMasterIsADeath) {
    PciConfig c;
    c.init(abi::kPciSlotDevice);
    EXPECT_EQ(c.write(4, 2, 0), ConfigEffect::None) << "it was never on";
    EXPECT_EQ(c.write(4, 1, 4), ConfigEffect::None);
    EXPECT_EQ(c.write(5, 1, 4), ConfigEffect::IntxChanged) << "a byte write leaves the other byte";
    EXPECT_TRUE(c.bus_master());
    EXPECT_EQ(c.write(6, 2, 0xffff), ConfigEffect::None) << "status is not ours to clear";
    EXPECT_EQ(c.write(4, 4, 0), ConfigEffect::BusMasterCleared);
}

TEST(PciConfigRules, RandomAccessesSeeOneSetOfRegisters) {
    std::mt19937 random(6);
    PciConfig c;
    c.init(abi::kPciHostDevice);
    std::set<ConfigEffect> seen;
    for (unsigned n = 0; n < 200'000; ++n) {
        const unsigned size = 1u << random() % 4;
        const unsigned offset = random() % 4 == 0 ? random() % 256 : random() % 0x40;
        if (random() % 2 == 0) {
            seen.insert(c.write(offset, size, random()));
        } else if (offset % size == 0 && size <= 4) {
            std::uint32_t bytes = 0;
            for (unsigned i = 0; i < size; ++i) bytes |= c.read(offset + i, 1) << (8 * i);
            ASSERT_EQ(c.read(offset, size), bytes) << offset << " size " << size;
        } else {
            (void)c.read(offset, size);
        }
        ASSERT_EQ(c.read(0, 4), abi::kPciHostDevice << 16 | abi::kPciVendor) << "identity is read-only";
        ASSERT_EQ(c.read(0x10, 4) % abi::kBarSize, 0u);
        ASSERT_EQ(c.read(4, 2) & ~0x406u, 0u) << "bits that do nothing stay clear";
        c.set_pending(random() % 2 != 0);
        ASSERT_TRUE(!c.intx() || (c.read(4, 2) & 0x400u) == 0);
    }
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(ConfigEffect::IntxChanged) + 1)
        << "every effect was reached";
}

}  // namespace
}  // namespace proa::hv
