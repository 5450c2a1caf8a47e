// The dirty log as a migration uses it: a guest writes whenever it likes, also in the middle of arm, harvest and
// disarm; whoever copies what each harvest names must end up with the guest's memory. Both back ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "fake_mmu.hpp"

namespace proa::hv::test {
namespace {

using ::testing::IsEmpty;

constexpr std::uint64_t kRam = 0x4000'0000, kAt = 0x2'4000'0000, kChunkPages = kChunk / kPage;
constexpr std::uint64_t kRw = s2::NormalWb | pte::SH_INNER | s2::R | s2::W | s2::Writable;

constexpr Ipa page_at(std::uint64_t page) {
    return Ipa(kRam + page * kPage);
}

// A guest whose pages hold only a version each, and a copy of them somewhere else.
template <class Env = FakeMmu>
struct Migration {
    Migration(unsigned ram_chunks, bool hardware_log, unsigned seed, std::uint64_t pool_pages = 64)
        : mmu(pool_pages, seed),
          hardware(hardware_log),
          chunks(ram_chunks),
          random(seed),
          version(pages()),
          copy(pages()) {
        free_at_start = mmu.free_pages();
        mmu.sets_access_flags = hardware;
        EXPECT_TRUE(s.init(mmu, 9));
        for (std::uint64_t c = 0; c < chunks; ++c)
            EXPECT_EQ(s.map(Ipa(kRam + c * kChunk), Pa(kAt + (chunks - c) * kChunk), kChunk, kRw),
                      MapStatus::Ok);
        tables_at_start = s.table_pages();
    }
    void finish() {
        mmu.between = nullptr;
        mmu.speculate.clear();
        s.destroy();
        EXPECT_EQ(mmu.free_pages(), free_at_start);
        EXPECT_THAT(mmu.violations, IsEmpty());
    }
    std::uint64_t pages() const { return chunks * kChunkPages; }
    std::uint64_t size() const { return chunks * kChunk; }

    // One attempt, as the MMU makes it; false: it faulted.
    bool attempt(unsigned cpu, std::uint64_t page) {
        const Translation t = mmu.access(cpu, page_at(page), Access::Write);
        outcome = t.outcome;
        if (t.outcome != Outcome::Done) return false;
        EXPECT_EQ(t.pa.v, kAt + (chunks - page / kChunkPages) * kChunk + page % kChunkPages * kPage);
        ++version[page];
        return true;
    }
    // As an access that waits for the handler where only the flag lacks.
    Outcome access(unsigned cpu, Ipa at, Access kind) {
        Translation t = mmu.access(cpu, at, kind);
        if (t.outcome == Outcome::AccessFlagFault) {
            s.access_fault(at);
            t = mmu.access(cpu, at, kind);
        }
        return t.outcome;
    }
    // A store, or the guest's MMU setting an access flag in a table that lies in this page (S1PTW): to stage 2 both
    // are writes. A permission fault goes to the handler, a translation fault is a block being split: look again.
    void write(unsigned cpu, std::uint64_t page) {
        for (unsigned tries = 0; !attempt(cpu, page); ++tries) {
            ASSERT_LT(tries, 5u) << "the write never gets through";
            if (outcome == Outcome::AccessFlagFault) {
                s.access_fault(page_at(page));
                continue;
            }
            ++faults;
            mmu.self = cpu;
            ASSERT_NE(s.write_fault(page_at(page)), WriteFault::NotWritable);
            mmu.self = 0;
        }
    }
    // CPUs 1 and 2 run on while CPU 0 is in the hypervisor; what faults waits for the lock.
    void run_guest_meanwhile() {
        for (unsigned i = 0; i < 32; ++i) mmu.speculate.push_back(page_at(random() % pages()));
        mmu.between = [this] {
            const unsigned cpu = 1 + static_cast<unsigned>(random() % 2);
            const std::uint64_t page = random() % 3 == 0 ? random() % pages() : random() % 16 * 31 % pages();
            if (!attempt(cpu, page)) waiting.emplace_back(cpu, page);
        };
    }
    void serve_waiting() {
        for (; !waiting.empty(); waiting.pop_front()) write(waiting.front().first, waiting.front().second);
    }
    void arm() {
        ASSERT_TRUE(s.arm(Ipa(kRam), size(), hardware));
        mmu.audit();
        for (const std::uint64_t p : accessed())
            copy[p] = version[p];  // round 0; what nobody has used is zero on both sides
        serve_waiting();
    }
    std::vector<std::uint64_t> accessed() {
        std::vector<std::uint64_t> result;
        std::uint64_t seen = 0;
        const std::uint64_t words = s.accessed(Ipa(kRam), size(), [&](std::uint64_t word, std::uint64_t bits) {
            for (++seen; bits != 0; bits &= bits - 1)
                result.push_back(word * 64 + static_cast<std::uint64_t>(__builtin_ctzll(bits)));
        });
        EXPECT_EQ(words, seen);
        return result;
    }
    // Harvests [first, first + count) chunks, then copies what it named.
    void harvest(std::uint64_t first, std::uint64_t count) {
        std::vector<bool> named(pages());
        std::uint64_t bits_seen = 0;
        const std::uint64_t n = s.harvest(
            Ipa(kRam + first * kChunk), count * kChunk, hardware, [&](std::uint64_t word, std::uint64_t bits) {
                for (; bits != 0; bits &= bits - 1, ++bits_seen) {
                    const std::uint64_t p =
                        first * kChunkPages + word * 64 + static_cast<std::uint64_t>(__builtin_ctzll(bits));
                    ASSERT_LT(p, (first + count) * kChunkPages);
                    ASSERT_FALSE(named[p]) << "named twice";
                    named[p] = true;
                }
            });
        EXPECT_EQ(n, bits_seen);
        mmu.audit();
        for (std::uint64_t p = 0; p < pages(); ++p)
            if (named[p]) copy[p] = version[p];
        serve_waiting();
    }
    std::uint64_t lost() const {
        std::uint64_t n = 0;
        for (std::uint64_t p = 0; p < pages(); ++p) n += copy[p] != version[p] ? 1 : 0;
        return n;
    }
    void disarm() {
        s.disarm(Ipa(kRam), size());
        mmu.audit();
        serve_waiting();
    }

    Env mmu;
    BasicStage2<Env> s;
    bool hardware;
    std::uint64_t chunks;
    std::mt19937 random;
    std::vector<unsigned> version, copy;
    std::deque<std::pair<unsigned, std::uint64_t>> waiting;
    Outcome outcome = Outcome::Done;
    std::uint64_t free_at_start = 0, tables_at_start = 0, faults = 0;
};

class DirtyLog : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(BackEnds, DirtyLog, ::testing::Values(false, true),
                         [](const auto& i) { return i.param ? "Hardware" : "WriteProtect"; });

TEST_P(DirtyLog, NamesExactlyTheWrittenPages) {
    Migration<> m(2, GetParam(), 1);
    m.arm();
    const std::vector<std::uint64_t> pages{0, 63, 64, 511, 512, 1023};
    for (const std::uint64_t p : pages) m.write(static_cast<unsigned>(p % 3), p);
    std::vector<std::uint64_t> named;
    const auto collect = [&](std::uint64_t w, std::uint64_t bits) {
        for (; bits != 0; bits &= bits - 1)
            named.push_back(w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(bits)));
    };
    EXPECT_EQ(m.s.harvest(Ipa(kRam), m.size(), GetParam(), collect), pages.size());
    EXPECT_EQ(named, pages);
    EXPECT_EQ(m.s.harvest(Ipa(kRam), m.size(), GetParam(), collect), 0u) << "taken is taken";
    m.finish();
}

TEST_P(DirtyLog, ReadingMarksNothing) {
    Migration<> m(1, GetParam(), 1);
    m.arm();
    for (std::uint64_t p = 0; p < m.pages(); ++p) m.access(0, page_at(p), Access::Read);
    EXPECT_EQ(m.s.harvest(Ipa(kRam), m.size(), GetParam(), [](std::uint64_t, std::uint64_t) {}), 0u);
    m.finish();
}

TEST_P(DirtyLog, AWriteThroughAStaleEntryAfterHarvestIsSeenAgain) {
    Migration<> m(1, GetParam(), 1);
    m.arm();
    for (unsigned cpu = 0; cpu < 3; ++cpu) m.write(cpu, 17);  // every TLB may write it now
    m.harvest(0, 1);
    m.write(2, 17);
    EXPECT_EQ(m.lost(), 1u);
    m.harvest(0, 1);
    EXPECT_EQ(m.lost(), 0u);
    m.finish();
}

// The whole of it: random writes before, after and in the middle of every operation.
TEST_P(DirtyLog, NoWriteIsEverLost) {
    for (unsigned seed = 1; seed <= 25; ++seed) {
        Migration<> m(1 + seed % 4, GetParam(), seed);
        for (unsigned i = 0; i < 300; ++i)
            m.write(static_cast<unsigned>(m.random() % 3), m.random() % m.pages());
        m.run_guest_meanwhile();
        m.arm();
        for (unsigned round = 0; round < 12; ++round) {
            const std::uint64_t writes = m.random() % 400;
            for (std::uint64_t i = 0; i < writes; ++i)
                m.write(static_cast<unsigned>(m.random() % 3),
                        m.random() % 4 == 0 ? m.random() % m.pages() : m.random() % 40);
            const std::uint64_t first = m.random() % 2 == 0 ? 0 : m.random() % m.chunks;
            m.harvest(first, first == 0 ? m.chunks : 1);
        }
        m.mmu.between = nullptr;  // the guest is paused
        m.harvest(0, m.chunks);
        ASSERT_EQ(m.lost(), 0u) << "seed " << seed;
        if (m.hardware) {
            EXPECT_GT(m.mmu.hw_dirty, 0u);
        }
        m.run_guest_meanwhile();
        m.disarm();
        EXPECT_EQ(m.s.table_pages(), m.tables_at_start) << "every chunk is a block again";
        for (std::uint64_t c = 0; c < m.chunks; ++c) {
            unsigned level;
            EXPECT_EQ(m.s.lookup(Ipa(kRam + c * kChunk), level) & s2::kAttributes & ~pte::AF, kRw);
            EXPECT_EQ(level, 2u);
        }
        m.finish();
        ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
    }
}

// A guest that has used little: what it meets first in the middle of an operation is found all the same.
TEST_P(DirtyLog, WhatWasNeverUsedNeedNotBeCopied) {
    std::uint64_t spared = 0;
    for (unsigned seed = 1; seed <= 25; ++seed) {
        Migration<> m(4, GetParam(), seed);
        const std::uint64_t used = m.random() % 3 * kChunkPages;
        for (unsigned i = 0; i < 20 && used != 0; ++i) m.write(i % 3, m.random() % used);
        unsigned writes = 0;  // to the chunks behind it: while one of them is being split, or soon after
        m.mmu.between = [&] {
            if (m.random() % 16 != 0 || ++writes > 3) return;
            const std::uint64_t page = used + m.random() % (m.pages() - used);
            if (!m.attempt(1, page)) m.waiting.emplace_back(1, page);
        };
        m.arm();
        spared += m.pages() - m.accessed().size();
        m.mmu.between = nullptr;
        m.harvest(0, m.chunks);
        ASSERT_EQ(m.lost(), 0u) << "seed " << seed;
        m.disarm();
        m.finish();
        ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
    }
    EXPECT_GT(spared, 10 * kChunkPages);
}

TEST_P(DirtyLog, AccessFlagsAreABlocksThenAPagesThenABlocksAgain) {
    Migration<> m(3, GetParam(), 11);
    EXPECT_THAT(m.accessed(), IsEmpty());
    EXPECT_EQ(m.access(1, page_at(kChunkPages + 7), Access::Read), Outcome::Done);
    EXPECT_EQ(m.accessed().size(), kChunkPages) << "of the block";
    m.arm();
    EXPECT_EQ(m.accessed().front(), kChunkPages);
    EXPECT_EQ(m.accessed().back(), 2 * kChunkPages - 1);
    m.write(2, 2 * kChunkPages + 9);
    EXPECT_EQ(m.accessed().size(), kChunkPages + 1);
    EXPECT_EQ(m.accessed().back(), 2 * kChunkPages + 9);
    m.disarm();
    EXPECT_EQ(m.s.table_pages(), m.tables_at_start) << "flags that differ keep no chunk from being a block";
    EXPECT_EQ(m.accessed().size(), 2 * kChunkPages);
    EXPECT_EQ(m.accessed().front(), kChunkPages) << "the first was never used";
    m.finish();
}

TEST_P(DirtyLog, MemoryMappedWithTheFlagCountsAsUsed) {
    Migration<> m(2, GetParam(), 12);
    ASSERT_TRUE(m.s.unmap(Ipa(kRam), kChunk));
    ASSERT_EQ(m.s.map(Ipa(kRam), Pa(kAt + 2 * kChunk), kChunk, kRw | pte::AF), MapStatus::Ok);
    EXPECT_EQ(m.accessed().size(), kChunkPages);
    m.arm();
    EXPECT_EQ(m.accessed().size(), kChunkPages);
    m.finish();
}

TEST_P(DirtyLog, CanBeArmedAgainAndAgain) {
    Migration<> m(3, GetParam(), 4);
    m.run_guest_meanwhile();
    for (unsigned n = 0; n < 5; ++n) {
        m.arm();
        EXPECT_EQ(m.s.table_pages(), m.tables_at_start + m.chunks);
        for (unsigned i = 0; i < 200; ++i) m.write(i % 3, m.random() % m.pages());
        m.harvest(0, m.chunks);
        m.disarm();
        EXPECT_EQ(m.s.table_pages(), m.tables_at_start);
    }
    m.finish();
}

TEST_P(DirtyLog, ArmingWithoutMemoryIsRefusedAndUndone) {
    Migration<> m(4, GetParam(), 5);
    m.mmu.take_memory(2);
    EXPECT_FALSE(m.s.arm(Ipa(kRam), m.size(), GetParam()));
    m.mmu.audit();
    m.disarm();
    EXPECT_EQ(m.s.table_pages(), m.tables_at_start);
    for (std::uint64_t p = 0; p < m.pages(); p += 100)
        EXPECT_EQ(m.access(1, page_at(p), Access::Write), Outcome::Done) << "everything is writable";
    m.mmu.give_memory_back();
    m.arm();
    m.finish();
}

TEST_P(DirtyLog, ReadOnlyMemoryAndHolesStayWhatTheyAre) {
    Migration<> m(3, GetParam(), 6);
    ASSERT_TRUE(m.s.unmap(Ipa(kRam + kChunk), 2 * kChunk));
    ASSERT_EQ(m.s.map(Ipa(kRam + kChunk), Pa(kAt), kChunk, s2::NormalWb | s2::R), MapStatus::Ok);
    m.arm();
    EXPECT_EQ(m.access(1, page_at(kChunkPages + 3), Access::Write), Outcome::PermissionFault);
    EXPECT_EQ(m.s.write_fault(page_at(kChunkPages + 3)), WriteFault::NotWritable);
    EXPECT_EQ(m.access(1, page_at(2 * kChunkPages), Access::Read), Outcome::TranslationFault);
    EXPECT_EQ(m.s.write_fault(page_at(2 * kChunkPages)), WriteFault::NotWritable);
    EXPECT_EQ(m.s.write_fault(Ipa(1ull << 50)), WriteFault::NotWritable);
    m.write(0, 1);
    m.harvest(0, 3);
    EXPECT_EQ(m.lost(), 0u);
    m.disarm();
    EXPECT_EQ(m.access(2, page_at(kChunkPages + 3), Access::Write), Outcome::PermissionFault);
    m.finish();
}

TEST(DirtyLogCost, HardwareTakesNoFaultAndWriteProtectOnePerPageAndRound) {
    for (const bool hardware : {true, false}) {
        Migration<> m(1, hardware, 7);
        m.arm();
        for (std::uint64_t p = 0; p < 100; ++p)
            for (unsigned again = 0; again < 3; ++again) m.write(0, p);
        // On one CPU: a fault to get the permission, one more for the entry the TLB kept from the first.
        EXPECT_EQ(m.faults, hardware ? 0u : 200u);
        m.finish();
    }
}

TEST(DirtyLogCost, AQuietGuestCostsNoFlush) {
    Migration<> m(4, false, 8);
    m.arm();
    const unsigned before = m.mmu.flushes;
    m.harvest(0, 4);
    EXPECT_EQ(m.mmu.flushes, before);
    m.finish();
}

TEST(WriteFault, SaysWhetherThePermissionWasThereAlready) {
    Migration<> m(1, false, 9);
    m.arm();
    EXPECT_EQ(m.access(1, page_at(3), Access::Write), Outcome::PermissionFault);
    EXPECT_EQ(m.access(2, page_at(3), Access::Write), Outcome::PermissionFault);
    EXPECT_EQ(m.s.write_fault(page_at(3)), WriteFault::Resolved);
    m.mmu.self = 2;
    EXPECT_EQ(m.s.write_fault(page_at(3)), WriteFault::Stale);
    EXPECT_TRUE(m.attempt(2, 3)) << "its own entry was dropped";
    m.finish();
}

// The model must be able to lose: a harvest whose flush does nothing.
struct Forgetful : FakeMmu {
    using FakeMmu::FakeMmu;
    bool armed = false;
    void flush_all(std::uint64_t vttbr) {
        if (!armed) FakeMmu::flush_all(vttbr);
    }
};

TEST_P(DirtyLog, WithoutTheFlushWritesWouldBeLost) {
    Migration<Forgetful> m(1, GetParam(), 10);
    m.arm();
    m.mmu.armed = true;
    m.write(1, 5);
    m.harvest(0, 1);
    m.write(1, 5);
    m.harvest(0, 1);
    EXPECT_EQ(m.lost(), 1u);
    EXPECT_FALSE(m.mmu.violations.empty());
}

}  // namespace
}  // namespace proa::hv::test
