// How far a write fault reaches: the window's rules, and what stage 2 makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "fake_mmu.hpp"

namespace proa::hv::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::uint64_t fault(WriteAround& w, std::uint64_t page) {
    const std::uint64_t n = w.more(page);
    w.gave(page, n);
    return n;
}

TEST(WriteAround, AWalkForwardDoublesTheGrantUpToItsMost) {
    WriteAround w;
    std::vector<std::uint64_t> given;
    for (std::uint64_t page = 100, i = 0; i < 8; ++i) {
        given.push_back(fault(w, page));
        page += given.back() + 1;
    }
    EXPECT_THAT(given, ElementsAre(0, 1, 2, 4, 8, 16, 16, 16));
}

TEST(WriteAround, AnyOtherFaultStartsAgain) {
    for (const std::uint64_t page : {0ull, 103ull, 99ull, 105ull}) {
        WriteAround w;
        fault(w, 100);
        fault(w, 101);  // and 102
        EXPECT_EQ(fault(w, page), page == 103 ? 2u : 0u);
        EXPECT_EQ(fault(w, page + (page == 103 ? 3 : 1)), page == 103 ? 4u : 1u);
    }
}

TEST(WriteAround, ScatteredWritesGetNothing) {
    WriteAround w;
    for (std::uint64_t i = 0; i < 50; ++i) EXPECT_EQ(fault(w, i * 7 % 64 * 2), 0u);
}

TEST(WriteAround, WhatWasNotGivenDoesNotBreakTheWalk) {
    WriteAround w;
    fault(w, 510);
    EXPECT_EQ(w.more(511), 1u);
    w.gave(511, 0);  // the end of a table
    EXPECT_EQ(fault(w, 512), 2u);
}

constexpr std::uint64_t kRam = 0x4000'0000;
constexpr std::uint64_t kRw = s2::NormalWb | pte::SH_INNER | s2::R | s2::W | s2::Writable;

struct Logged {
    explicit Logged(std::uint64_t chunks) : mmu(64) {
        EXPECT_TRUE(s.init(mmu, 3));
        EXPECT_EQ(s.map(Ipa(kRam), Pa(kRam), chunks * kChunk, kRw), MapStatus::Ok);
        size = chunks * kChunk;
        EXPECT_TRUE(s.arm(Ipa(kRam), size, false));
    }
    ~Logged() {
        mmu.audit();
        EXPECT_THAT(mmu.violations, IsEmpty());
        s.destroy();
    }
    bool write(std::uint64_t page, bool walk = false) {
        const Ipa at(kRam + page * kPage);
        bool faulted = false;
        while (mmu.access(0, at, Access::Write).outcome != Outcome::Done) {
            faulted = true;
            EXPECT_NE(s.write_fault(
                          at, [](Ipa, Pa) { return true; }, walk ? nullptr : &around),
                      WriteFault::NotWritable);
        }
        return faulted;
    }
    std::set<std::uint64_t> harvest() {
        std::set<std::uint64_t> named;
        s.harvest(Ipa(kRam), size, false, [&](std::uint64_t w, std::uint64_t bits) {
            for (; bits != 0; bits &= bits - 1)
                named.insert(w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(bits)));
        });
        return named;
    }
    FakeMmu mmu;
    BasicStage2<FakeMmu> s;
    WriteAround around;
    std::uint64_t size = 0;
};

TEST(WriteAround, EveryPageGivenIsReportedAsWritten) {
    Logged g(2);
    std::set<std::uint64_t> written;
    unsigned faults = 0;
    for (std::uint64_t p = 500; p < 600; ++p) {
        faults += g.write(p) ? 1 : 0;
        written.insert(p);
    }
    EXPECT_LT(faults, 20u) << "one for up to 17 pages";
    const auto named = g.harvest();
    EXPECT_TRUE(std::includes(named.begin(), named.end(), written.begin(), written.end()));
    EXPECT_LE(named.size(), written.size() + WriteAround::kMost) << "over-reporting has a bound";
    for (std::uint64_t p = 500; p < 600; ++p) g.write(p);
    EXPECT_GE(g.harvest().size(), written.size()) << "and they are watched again";
}

TEST(WriteAround, StopsAtAHeldPage) {
    Logged g(1);
    std::uint64_t copies = 0;
    g.s.hold(
        Ipa(kRam), g.size, [](std::uint64_t w) { return w == 0 ? 1ull << 12 : 0; },
        [](std::uint64_t, std::uint64_t) {});
    for (std::uint64_t p = 0; p < 12; ++p) g.write(p);
    const Ipa held(kRam + 12 * kPage);
    ASSERT_EQ(g.mmu.access(0, held, Access::Write).outcome, Outcome::PermissionFault);
    EXPECT_EQ(g.s.write_fault(
                  held, [&](Ipa, Pa) { return ++copies, true; }, &g.around),
              WriteFault::Resolved);
    EXPECT_EQ(copies, 1u);
}

TEST(WriteAround, StopsAtTheTablesEndAndGoesOnInTheNext) {
    Logged g(2);
    for (std::uint64_t p = 480; p < 512; ++p) g.write(p);
    const auto named = g.harvest();
    EXPECT_EQ(*named.rbegin(), 511u);
    EXPECT_TRUE(g.write(512));
    EXPECT_EQ(g.harvest().size(), 1u + WriteAround::kMost);
}

TEST(WriteAround, AWalkersWriteGetsItsPageOnly) {
    Logged g(1);
    for (std::uint64_t p = 0; p < 20; ++p) EXPECT_TRUE(g.write(p, true));
    EXPECT_EQ(g.harvest().size(), 20u);
}

}  // namespace
}  // namespace proa::hv::test
