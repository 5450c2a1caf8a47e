// BasicStage2: what is mapped, unmapped, split and joined, against a flat model and a TLB that forgives nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "fake_mmu.hpp"

namespace proa::hv::test {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kRw = s2::NormalWb | pte::SH_INNER | s2::R | s2::W | s2::Writable | pte::AF;
constexpr std::uint64_t kReadOnly = s2::NormalWb | pte::SH_INNER | s2::R | pte::AF;
constexpr std::uint64_t kDevice = s2::DeviceNgnre | s2::R | s2::W | s2::Writable | s2::XN | pte::AF;

struct Fixture {
    explicit Fixture(std::uint64_t pages = 512, unsigned seed = 1)
        : mmu(pages, seed), free_at_start(mmu.free_pages()) {
        EXPECT_TRUE(s.init(mmu, 5));
    }
    ~Fixture() {
        mmu.audit();
        s.destroy();
        EXPECT_EQ(mmu.free_pages(), free_at_start) << "table pages leaked";
        EXPECT_THAT(mmu.violations, IsEmpty());
    }
    FakeMmu mmu;
    std::uint64_t free_at_start;
    BasicStage2<FakeMmu> s;
};

// What a leaf grants, without the address.
std::uint64_t attributes_at(const BasicStage2<FakeMmu>& s, Ipa at) {
    unsigned level;
    return s.lookup(at, level) & s2::kAttributes;
}

TEST(Stage2, UsesTheLargestBlocksThatFit) {
    Fixture f;
    ASSERT_EQ(f.s.map(Ipa(kGig - kChunk - kPage), Pa(kGig - kChunk - kPage), 2 * kGig, kRw), MapStatus::Ok);
    unsigned level;
    f.s.lookup(Ipa(kGig - kChunk - kPage), level);
    EXPECT_EQ(level, 3u);
    f.s.lookup(Ipa(kGig - kChunk), level);
    EXPECT_EQ(level, 2u);
    f.s.lookup(Ipa(kGig), level);
    EXPECT_EQ(level, 1u);
    EXPECT_EQ(f.mmu.access(0, Ipa(kGig + 0x1234'5678), Access::Write).pa, Pa(kGig + 0x1234'5678));
}

TEST(Stage2, AnOutputAddressThatIsNotAlignedForcesSmallerPages) {
    Fixture f;
    ASSERT_EQ(f.s.map(Ipa(kChunk), Pa(kChunk + kPage), kChunk, kRw), MapStatus::Ok);
    unsigned level;
    EXPECT_EQ(f.s.lookup(Ipa(kChunk + 5 * kPage), level) & pte::kAddress, kChunk + 6 * kPage);
    EXPECT_EQ(level, 3u);
}

TEST(Stage2, TheWholeInputRangeCanBeMappedAndNothingBeyond) {
    Fixture f;
    constexpr std::uint64_t kAll = BasicStage2<FakeMmu>::kIpaSize;
    EXPECT_EQ(f.s.map(Ipa(kAll), Pa(0), kPage, kRw), MapStatus::OutOfRange);
    EXPECT_EQ(f.s.map(Ipa(kAll - kPage), Pa(0), 2 * kPage, kRw), MapStatus::OutOfRange);
    EXPECT_EQ(f.s.map(Ipa(~0ull & ~(kPage - 1)), Pa(0), 2 * kPage, kRw), MapStatus::OutOfRange);
    EXPECT_EQ(f.s.map(Ipa(0), Pa(0), kAll, kDevice), MapStatus::Ok);
    EXPECT_EQ(f.mmu.access(0, Ipa(kAll - 8), Access::Read).pa, Pa(kAll - 8));
    unsigned level;
    EXPECT_EQ(f.s.lookup(Ipa(kAll), level), 0u);
}

TEST(Stage2, SplittingABlockKeepsEveryPermissionAndAddress) {
    for (const std::uint64_t attributes : {kRw, kReadOnly, kDevice}) {
        Fixture f;
        ASSERT_EQ(f.s.map(Ipa(kGig), Pa(3 * kGig), kGig, attributes), MapStatus::Ok);
        for (unsigned cpu = 0; cpu < FakeMmu::kCpus; ++cpu)
            f.mmu.access(cpu, Ipa(kGig + 7 * kChunk), Access::Read);  // the TLBs know the block
        const std::uint64_t before = attributes_at(f.s, Ipa(kGig));
        ASSERT_TRUE(f.s.unmap(Ipa(kGig + 5 * kChunk + 3 * kPage), kPage));
        f.mmu.audit();
        for (std::uint64_t at = 0; at < kGig; at += kPage) {
            unsigned level;
            const std::uint64_t e = f.s.lookup(Ipa(kGig + at), level);
            if (at == 5 * kChunk + 3 * kPage) {
                ASSERT_EQ(e, 0u);
                continue;
            }
            ASSERT_EQ((e & pte::kAddress) + (at & (pte::span(level) - 1)), 3 * kGig + at);
            ASSERT_EQ(e & s2::kAttributes, before);
            ASSERT_EQ(level, at / kChunk == 5 ? 3u : 2u);
        }
    }
}

TEST(Stage2, AMapThatRunsOutOfMemoryLeavesNothingBehind) {
    Fixture f(64);
    f.mmu.take_memory(2);  // a level-2 table and one level-3 table
    EXPECT_EQ(f.s.map(Ipa(kPage), Pa(kPage), 4 * kChunk, kRw), MapStatus::NoMemory);
    for (std::uint64_t at = 0; at < 5 * kChunk; at += kPage) {
        unsigned level;
        ASSERT_EQ(f.s.lookup(Ipa(at), level), 0u);
    }
    f.mmu.give_memory_back();
    EXPECT_EQ(f.s.map(Ipa(kPage), Pa(kPage), 4 * kChunk, kRw), MapStatus::Ok) << "empty tables are no obstacle";
}

TEST(Stage2, AnUnmapThatRunsOutOfMemoryStillFlushesWhatItTook) {
    Fixture f(64);
    ASSERT_EQ(f.s.map(Ipa(0), Pa(0), 2 * kChunk, kRw), MapStatus::Ok);
    for (unsigned cpu = 0; cpu < FakeMmu::kCpus; ++cpu) f.mmu.access(cpu, Ipa(0), Access::Write);
    f.mmu.take_memory(0);
    EXPECT_FALSE(f.s.unmap(Ipa(0), kChunk + kPage));
    f.mmu.audit();
    EXPECT_THAT(f.mmu.violations, IsEmpty());
    f.mmu.give_memory_back();
}

TEST(Stage2, ABlockCanReplaceTheEmptyTableOfWhatWasUnmapped) {
    Fixture f;
    ASSERT_EQ(f.s.map(Ipa(kGig), Pa(kGig), kPage, kRw), MapStatus::Ok);
    EXPECT_EQ(f.s.map(Ipa(kGig), Pa(kGig), kGig, kRw), MapStatus::Overlap);
    ASSERT_TRUE(f.s.unmap(Ipa(kGig), kPage));
    EXPECT_EQ(f.s.map(Ipa(kGig), Pa(kGig), kGig, kRw), MapStatus::Ok);
    EXPECT_EQ(f.mmu.access(1, Ipa(kGig + 12345 * 8), Access::Write).pa, Pa(kGig + 12345 * 8));
}

// Random maps and unmaps of every size against one word a page.
TEST(Stage2, RandomMapsAndUnmapsAgreeWithAFlatModel) {
    constexpr std::uint64_t kBase = 63 * kGig, kSpan = 3 * kGig;
    for (unsigned seed = 1; seed <= 6; ++seed) {
        Fixture f(4096, seed);
        std::mt19937_64 random(seed);
        std::vector<std::uint64_t> model(kSpan / kPage);  // output page | attributes; 0: nothing
        for (unsigned i = 0; i < 64; ++i) f.mmu.speculate.emplace_back(kBase + random() % kSpan);
        for (unsigned n = 0; n < 150; ++n) {
            constexpr std::uint64_t kUnits[] = {kPage, kPage, kChunk, kChunk, kGig};
            const std::uint64_t unit = kUnits[random() % 5];
            const std::uint64_t at = random() % (kSpan / unit) * unit + (random() % 4 == 0 ? kPage : 0);
            const std::uint64_t size = std::min((1 + random() % 3) * unit + random() % 2 * kPage, kSpan - at);
            const std::uint64_t first = at / kPage, last = (at + size) / kPage;
            if (random() % 2 == 0) {
                const std::uint64_t out =
                    (random() % 2 == 0 ? kBase + at : random() % 64 * kGig + random() % 2 * kPage);
                const std::uint64_t attributes = random() % 3 == 0   ? kReadOnly
                                                 : random() % 2 == 0 ? kDevice
                                                                     : kRw;
                bool clear = true;
                for (std::uint64_t p = first; p < last; ++p) clear = clear && model[p] == 0;
                ASSERT_EQ(f.s.map(Ipa(kBase + at), Pa(out), size, attributes),
                          clear ? MapStatus::Ok : MapStatus::Overlap);
                for (std::uint64_t p = first; clear && p < last; ++p)
                    model[p] = (out + (p - first) * kPage) | attributes;
            } else {
                ASSERT_TRUE(f.s.unmap(Ipa(kBase + at), size));
                std::fill(model.begin() + static_cast<long>(first), model.begin() + static_cast<long>(last), 0);
            }
            f.mmu.audit();
            for (unsigned k = 0; k < 200; ++k) {
                const std::uint64_t p = random() % model.size();
                const Access kind = random() % 2 == 0 ? Access::Read : Access::Write;
                const Translation t =
                    f.mmu.access(static_cast<unsigned>(random() % 3), Ipa(kBase + p * kPage), kind);
                if (model[p] == 0) {
                    ASSERT_EQ(t.outcome, Outcome::TranslationFault);
                } else if (kind == Access::Write && (model[p] & s2::W) == 0) {
                    ASSERT_EQ(t.outcome, Outcome::PermissionFault);
                } else {
                    ASSERT_EQ(t.outcome, Outcome::Done);
                    ASSERT_EQ(t.pa.v, model[p] & pte::kAddress);
                }
            }
            ASSERT_THAT(f.mmu.violations, IsEmpty()) << "seed " << seed << " step " << n;
        }
        for (std::uint64_t p = 0; p < model.size(); ++p) {
            unsigned level;
            const std::uint64_t e = f.s.lookup(Ipa(kBase + p * kPage), level);
            const std::uint64_t out = (e & pte::kAddress) + ((p * kPage) & (pte::span(level) - 1));
            ASSERT_EQ(e == 0 ? 0 : out | (e & s2::kAttributes), model[p]);
        }
    }
}

// --- the fake must see what it is there to see --------------------------------------------------------------------

struct Forgetful : FakeMmu {
    using FakeMmu::FakeMmu;
    void flush_all(std::uint64_t) {}
};
struct Neighbourly : FakeMmu {  // flushes by address where all was asked for
    using FakeMmu::FakeMmu;
    void flush_all(std::uint64_t vttbr) { flush_page(vttbr, Ipa(kChunk)); }
};
struct Careless : FakeMmu {  // no flush in the middle of break-before-make
    using FakeMmu::FakeMmu;
    void flush_page(std::uint64_t, Ipa) {}
};

template <class Env, class F>
std::vector<std::string> violations_of(F&& f) {
    Env mmu(512);
    BasicStage2<Env> s;
    EXPECT_TRUE(s.init(mmu, 1));
    f(mmu, s);
    mmu.audit();
    return mmu.violations;
}

TEST(FakeMmu, SeesAnUnmapWithoutAFlush) {
    const auto life = [](auto& mmu, auto& s) {
        s.map(Ipa(0), Pa(0), kPage, kRw);
        mmu.access(2, Ipa(0), Access::Read);
        s.unmap(Ipa(0), kPage);
    };
    EXPECT_THAT(violations_of<FakeMmu>(life), IsEmpty());
    EXPECT_THAT(violations_of<Forgetful>(life), Not(IsEmpty()));
}

TEST(FakeMmu, SeesABlockSplitWithoutBreakBeforeMake) {
    const auto life = [](auto& mmu, auto& s) {
        s.map(Ipa(0), Pa(0), kChunk, kRw);
        mmu.access(1, Ipa(8 * kPage), Access::Write);
        s.arm(Ipa(0), kChunk, false);
    };
    EXPECT_THAT(violations_of<FakeMmu>(life), IsEmpty());
    EXPECT_THAT(violations_of<Careless>(life), Not(IsEmpty()));
}

TEST(FakeMmu, SeesABlockJoinedWhileItsPagesAreStillCached) {
    const auto life = [](auto& mmu, auto& s) {
        s.map(Ipa(kChunk), Pa(0), kChunk, kRw);
        s.arm(Ipa(kChunk), kChunk, false);
        for (std::uint64_t p = 0; p < 512; ++p) mmu.access(1, Ipa(kChunk + p * kPage), Access::Read);
        s.disarm(Ipa(kChunk), kChunk);
    };
    EXPECT_THAT(violations_of<FakeMmu>(life), IsEmpty());
    EXPECT_THAT(violations_of<Neighbourly>(life), Not(IsEmpty()));
}

}  // namespace
}  // namespace proa::hv::test
