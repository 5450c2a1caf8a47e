// PSCI decoding, CPU policy, PCI configuration space.
#include <gtest/gtest.h>

#include "hypervisor/abi/idregs_names.hpp"
#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/pci/config.hpp"
#include "hypervisor/psci/psci.hpp"

namespace proa::hv {
namespace {

TEST(Psci, ThirtyTwoBitCallsAreTruncated) {
    const PsciRequest narrow = decode_psci(0x8400'0003, 0xdead'0000'0001, 0xbeef'0000'1000, 7);
    EXPECT_EQ(narrow.call, PsciCall::CpuOn);
    EXPECT_EQ(narrow.args[0], 1u);
    EXPECT_EQ(narrow.args[1], 0x1000u);
    EXPECT_EQ(decode_psci(0xc400'0003, 0x1'0000'0001, 0, 0).args[0], 0x1'0000'0001u);
}

TEST(Psci, WhatIsNotThereIsNotSupported) {
    for (const std::uint64_t fn : {0x8400'00ffull, 0xc400'0002ull, 0x0ull, ~0ull, 0xc600'0000ull})
        EXPECT_EQ(decode_psci(fn, 0, 0, 0).call, PsciCall::NotSupported);
}

abi::CpuPolicy rich_host() {
    abi::CpuPolicy p{};
    p.version = abi::kStateVersion;
    for (auto* r : {&p.id_aa64pfr0_el1, &p.id_aa64pfr1_el1, &p.id_aa64zfr0_el1, &p.id_aa64smfr0_el1,
                    &p.id_aa64dfr0_el1, &p.id_aa64isar0_el1, &p.id_aa64isar1_el1, &p.id_aa64isar2_el1,
                    &p.id_aa64mmfr0_el1, &p.id_aa64mmfr1_el1, &p.id_aa64mmfr2_el1})
        *r = 0x1111'1111'1111'1111;
    return p;
}

TEST(CpuPolicy, HidesWhatAGuestMustNotSee) {
    const abi::CpuPolicy p = sanitize(rich_host());
    EXPECT_EQ(p.id_aa64pfr0_el1 >> 32 & 0xf, 0u) << "SVE";
    EXPECT_EQ(p.id_aa64pfr0_el1 >> 8 & 0xff, 0u) << "EL2, EL3";
    EXPECT_EQ(p.id_aa64pfr0_el1 & 0xff, 0x11u) << "EL0 and EL1 in AArch64 only";
    EXPECT_EQ(p.id_aa64pfr1_el1 >> 8 & 0xf, 0u) << "MTE";
    EXPECT_EQ(p.id_aa64dfr0_el1 >> 8 & 0xf, 0u) << "PMU";
    EXPECT_EQ(p.id_aa64pfr0_el1 >> 24 & 0xf, 1u) << "GIC system registers";
    EXPECT_NE(p.id_aa64isar0_el1 >> 20 & 0xf, 0u) << "atomics stay";
    EXPECT_FALSE(check(p, p).found);
}

TEST(CpuPolicy, NamesTheFeatureTheDestinationLacks) {
    const abi::CpuPolicy guest = sanitize(rich_host());
    auto host = guest;
    host.id_aa64isar0_el1 &= ~(0xfull << 20);
    const PolicyMismatch m = check(guest, host);
    ASSERT_TRUE(m.found);
    EXPECT_EQ(abi::feature_name(m.word, m.shift, m.whole), "ID_AA64ISAR0_EL1.Atomic");
    EXPECT_FALSE(check(host, guest).found) << "a richer destination is welcome";
    host = guest;
    host.midr_el1 = 1;
    EXPECT_EQ(abi::feature_name(check(guest, host).word, 0, true), "MIDR_EL1");
}

TEST(CpuPolicy, SignedFieldsCompareAsSigned) {
    auto guest = sanitize(rich_host()), host = guest;
    guest.id_aa64pfr0_el1 = (guest.id_aa64pfr0_el1 & ~(0xfull << 16)) | 0xfull << 16;  // no FP
    EXPECT_FALSE(check(guest, host).found);
    EXPECT_TRUE(check(host, guest).found);
}

TEST(PciConfig, BarSizingFollowsTheProtocol) {
    PciConfig c;
    c.init(abi::kPciSlotDevice);
    c.write(0x10, 4, ~0u);
    EXPECT_EQ(~(c.read(0x10, 4) & ~0xfu) + 1, abi::kBarSize);
    c.write(0x10, 4, 0x1234'0000);
    c.write(0x4, 2, 2);
    std::uint64_t offset = 0;
    EXPECT_TRUE(c.decodes(0x1234'0018, offset));
    EXPECT_EQ(offset, 0x18u);
    EXPECT_FALSE(c.decodes(0x1235'0000, offset));
}

TEST(PciConfig, LosingBusMasterIsNoticedAndIntxDisableMasksTheLine) {
    PciConfig c;
    c.init(abi::kPciSlotDevice);
    EXPECT_EQ(c.write(4, 2, 6), ConfigEffect::None);
    c.set_pending(true);
    EXPECT_TRUE(c.intx());
    EXPECT_EQ(c.write(4, 2, 6 | 1 << 10), ConfigEffect::IntxChanged);
    EXPECT_FALSE(c.intx());
    EXPECT_EQ(c.read(6, 2) & 8u, 8u);
    EXPECT_EQ(c.write(4, 2, 2), ConfigEffect::BusMasterCleared);
}

}  // namespace
}  // namespace proa::hv
