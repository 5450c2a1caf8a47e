// Copy-on-write checkpoints at stage 2, as replication uses them: pause, hold, go on, read live, look for copies. Against real
// pages, CPUs whose TLBs never forget, and both dirty logs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "fake_mmu.hpp"
#include "hypervisor/mm/copy_pool.hpp"

namespace proa::hv::test {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kRam = 0x4000'0000, kAt = 0x2'4000'0000, kChunkPages = kChunk / kPage;
constexpr std::uint64_t kRw = s2::NormalWb | pte::SH_INNER | s2::R | s2::W | s2::Writable;

constexpr Ipa page_at(std::uint64_t page) {
    return Ipa(kRam + page * kPage);
}

using Page = std::vector<std::uint8_t>;

// A guest with memory, under checkpoints, and a backup that has what they brought.
template <class Env = FakeMmu>
struct Protected {
    Protected(unsigned ram_chunks, bool hardware_log, unsigned seed, unsigned pool_chunks = 1)
        : mmu(64, seed), hardware(hardware_log), chunks(ram_chunks), random(seed) {
        memory.resize(chunks * kChunk);
        free_at_start = mmu.free_pages();
        EXPECT_TRUE(s.init(mmu, 9));
        EXPECT_EQ(s.map(Ipa(kRam), Pa(kAt), chunks * kChunk, kRw), MapStatus::Ok);
        tables_at_start = s.table_pages();
        for (unsigned i = 0; i < pool_chunks; ++i) {
            storage.push_back(std::make_unique<abi::CopyChunk>());
            given.push_back(storage.back().get());
        }
        pool.give(given.data(), given.size());
        EXPECT_TRUE(s.arm(Ipa(kRam), size(), hardware));
        backup = memory;
        asked.resize(pages() / 64);
    }
    void finish() {
        s.disarm(Ipa(kRam), size());
        mmu.audit();
        EXPECT_EQ(s.table_pages(), tables_at_start) << "every chunk is a block again";
        for (std::uint64_t c = 0; c < chunks; ++c) {
            unsigned level;
            EXPECT_EQ(s.lookup(Ipa(kRam + c * kChunk), level) & s2::kAttributes & ~pte::AF, kRw);
        }
        s.destroy();
        EXPECT_EQ(mmu.free_pages(), free_at_start);
        EXPECT_THAT(mmu.violations, IsEmpty());
    }
    std::uint64_t pages() const { return chunks * kChunkPages; }
    std::uint64_t size() const { return chunks * kChunk; }
    Page page(std::uint64_t p) const {
        return {memory.begin() + static_cast<long>(p * kPage),
                memory.begin() + static_cast<long>((p + 1) * kPage)};
    }

    // One store; false: the vCPU waits for room in the pool.
    bool write(unsigned cpu, std::uint64_t p) {
        const auto copy = [&](Ipa at, Pa from) {
            EXPECT_EQ(at.v - kRam, from.v - kAt);
            return pool.take((at.v - kRam) / kPage, memory.data() + (from.v - kAt));
        };
        for (unsigned tries = 0; mmu.access(cpu, page_at(p), Access::Write).outcome != Outcome::Done; ++tries) {
            EXPECT_LT(tries, 4u) << "the write never gets through";
            ++faults;
            mmu.self = cpu;
            const WriteFault f = s.write_fault(page_at(p) + 8 * (random() % 512), copy, &around[cpu]);
            mmu.self = 0;
            EXPECT_NE(f, WriteFault::NotWritable);
            if (f == WriteFault::NoRoom || tries >= 4) return false;
        }
        store(p);
        return true;
    }
    void store(std::uint64_t p) { std::memcpy(&memory[p * kPage + random() % 512 * 8], &++stamp, 8); }
    // A device model's write: user space asks for the page to be held, or copies it itself if it is.
    void ask(std::uint64_t p) { asked[p / 64] |= 1ull << (p % 64); }

    std::uint64_t hold() {
        held.clear();
        const auto note = [&](std::uint64_t w, std::uint64_t bits) {
            for (; bits != 0; bits &= bits - 1)
                EXPECT_TRUE(
                    held.insert({w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(bits)), {}}).second)
                    << "named twice";
        };
        const std::uint64_t n = s.hold(
            Ipa(kRam), size(), [&](std::uint64_t w) { return asked[w]; }, note);
        EXPECT_EQ(n, held.size());
        std::fill(asked.begin(), asked.end(), 0);
        mmu.audit();
        at_pause = memory;
        copied.clear();
        return n;
    }
    void read(std::uint64_t p) { held[p] = page(p); }
    void take_copies() {
        for (const auto& c : storage)
            for (std::uint64_t i = 0; i < c->published; ++i)
                copied[c->page[i]] = {c->copy[i], c->copy[i] + kPage};
    }
    void release_all() {
        s.release(Ipa(kRam), size());
        pool.clear();
        mmu.audit();
    }
    // What arrives at the backup.
    void send() {
        for (const auto& [p, bytes] : held) {
            const Page& right = copied.contains(p) ? copied[p] : bytes;
            ASSERT_EQ(right.size(), kPage) << "page " << p << " was not read";
            std::memcpy(&backup[p * kPage], right.data(), kPage);
        }
    }

    Env mmu;
    BasicStage2<Env> s;
    CopyPool pool;
    bool hardware;
    std::uint64_t chunks;
    std::mt19937 random;
    std::vector<std::unique_ptr<abi::CopyChunk>> storage;
    std::vector<abi::CopyChunk*> given;
    std::vector<std::uint8_t> memory, backup, at_pause;
    std::vector<std::uint64_t> asked;
    std::map<std::uint64_t, Page> held, copied;
    WriteAround around[FakeMmu::kCpus];
    std::uint64_t stamp = 0, faults = 0, free_at_start = 0, tables_at_start = 0;
};

class Checkpoint : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(BackEnds, Checkpoint, ::testing::Values(false, true),
                         [](const auto& i) { return i.param ? "Hardware" : "WriteProtect"; });

// The whole of it: the backup is the guest at each pause, whatever is written while the checkpoint is read.
TEST_P(Checkpoint, TheBackupIsTheGuestAtThePause) {
    unsigned waited = 0;
    for (unsigned seed = 1; seed <= 12; ++seed) {
        Protected<> g(1 + seed % 3, GetParam(), seed, 1 + seed % 2);
        for (unsigned i = 0; i < 16; ++i) g.mmu.speculate.push_back(page_at(g.random() % g.pages()));
        if (seed % 4 == 0)
            for (std::uint64_t p = 0; p < g.pages(); ++p) g.ask(p);  // the first checkpoint is all of it
        for (unsigned epoch = 0; epoch < 8; ++epoch) {
            const std::uint64_t writes = g.random() % 600, start = g.random() % g.pages();
            for (std::uint64_t i = 0; i < writes; ++i)  // random, and a walk forward
                ASSERT_TRUE(g.write(static_cast<unsigned>(g.random() % 3),
                                    i % 2 == 0 ? g.random() % g.pages() : (start + i / 2) % g.pages()));
            for (unsigned i = 0; i < 20; ++i) {  // device models
                const std::uint64_t p = g.random() % g.pages();
                g.ask(p);
                g.store(p);
            }
            g.hold();
            std::vector<std::uint64_t> order;
            for (const auto& [p, bytes] : g.held) order.push_back(p);
            for (std::size_t i = 0; i < order.size(); ++i) {
                for (std::uint64_t k = g.random() % 4; k > 0; --k)
                    waited += g.write(static_cast<unsigned>(g.random() % 3), g.random() % g.pages()) ? 0 : 1;
                g.read(order[i]);
                if (i + 1 < order.size() && order[i + 1] / kChunkPages == order[i] / kChunkPages) continue;
                g.take_copies();
                g.s.release(page_at(order[i] / kChunkPages * kChunkPages), kChunk);
            }
            g.send();
            ASSERT_EQ(g.backup, g.at_pause) << "seed " << seed << " epoch " << epoch;
            g.release_all();
        }
        g.finish();
        ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
    }
    EXPECT_GT(waited, 0u) << "the pool was full now and then";
}

TEST_P(Checkpoint, HoldsWhatVcpusWroteAndWhatUserSpaceAsksFor) {
    Protected<> g(2, GetParam(), 1);
    for (const std::uint64_t p : {0, 63, 511, 600}) g.write(1, p);
    g.ask(5);
    g.ask(63);
    g.ask(1023);
    EXPECT_EQ(g.hold(), 6u);
    std::vector<std::uint64_t> names;
    for (const auto& [p, bytes] : g.held) names.push_back(p);
    EXPECT_THAT(names, ::testing::ElementsAre(0, 5, 63, 511, 600, 1023));
    g.release_all();
    EXPECT_EQ(g.hold(), 0u) << "taken is taken";
    g.finish();
}

TEST_P(Checkpoint, EachHeldPageIsCopiedOnceAndIsInTheNextCheckpointAgain) {
    Protected<> g(1, GetParam(), 2);
    g.ask(7);
    g.hold();
    const Page before = g.page(7);
    for (unsigned cpu = 0; cpu < 3; ++cpu) ASSERT_TRUE(g.write(cpu, 7));
    EXPECT_EQ(g.pool.used(), 1u);
    EXPECT_EQ(g.given[0]->page[0], 7u);
    EXPECT_EQ(Page(g.given[0]->copy[0], g.given[0]->copy[0] + kPage), before);
    g.release_all();
    EXPECT_EQ(g.given[0]->published, 0u);
    EXPECT_EQ(g.hold(), 1u);
    g.finish();
}

TEST_P(Checkpoint, AFullPoolMakesTheWriterWaitUntilItsPageHasBeenRead) {
    Protected<> g(2, GetParam(), 3);
    for (std::uint64_t p = 0; p < g.pages(); ++p) g.ask(p);
    EXPECT_EQ(g.hold(), 1024u);
    for (std::uint64_t p = 0; p < abi::kCopiesPerChunk; ++p) ASSERT_TRUE(g.write(0, p));
    const Page before = g.page(1000);
    EXPECT_FALSE(g.write(0, 1000));
    EXPECT_FALSE(g.write(1, 1000)) << "asking again changes nothing";
    EXPECT_EQ(g.page(1000), before);
    g.s.release(page_at(0), kChunk);
    EXPECT_FALSE(g.write(0, 1000)) << "another chunk";
    g.s.release(page_at(kChunkPages), kChunk);
    EXPECT_TRUE(g.write(0, 1000));
    EXPECT_EQ(g.pool.used(), abi::kCopiesPerChunk) << "and no copy was needed";
    g.release_all();
    g.finish();
}

TEST_P(Checkpoint, ReleasingAllMakesThePoolEmptyAgain) {
    Protected<> g(2, GetParam(), 4);
    for (unsigned round = 0; round < 3; ++round) {
        for (std::uint64_t p = 0; p < g.pages(); ++p) g.ask(p);
        g.hold();
        for (std::uint64_t p = 0; p < abi::kCopiesPerChunk; ++p) ASSERT_TRUE(g.write(0, p));
        ASSERT_FALSE(g.write(0, 1023));
        g.release_all();
        ASSERT_TRUE(g.write(0, 1023));
        EXPECT_EQ(g.pool.used(), 0u);
    }
    g.finish();
}

TEST_P(Checkpoint, AHarvestNamesWhatWasWrittenSinceAndLeavesTheRestHeld) {
    Protected<> g(1, GetParam(), 5);
    for (const std::uint64_t p : {1, 2, 3}) g.ask(p);
    g.hold();
    ASSERT_TRUE(g.write(0, 2));
    ASSERT_TRUE(g.write(0, 9));
    std::uint64_t named = 0;
    EXPECT_EQ(
        g.s.harvest(Ipa(kRam), g.size(), g.hardware, [&](std::uint64_t, std::uint64_t bits) { named |= bits; }),
        2u);
    EXPECT_EQ(named, 1u << 2 | 1u << 9);
    ASSERT_TRUE(g.write(1, 2));
    EXPECT_EQ(g.pool.used(), 1u) << "it has its copy";
    ASSERT_TRUE(g.write(1, 3));
    EXPECT_EQ(g.pool.used(), 2u);
    g.release_all();
    g.finish();
}

TEST_P(Checkpoint, DisarmingInTheMiddleOfOneEndsIt) {
    Protected<> g(2, GetParam(), 6);
    for (std::uint64_t p = 0; p < g.pages(); p += 3) g.ask(p);
    g.hold();
    for (std::uint64_t p = 0; p < 200; ++p) ASSERT_TRUE(g.write(static_cast<unsigned>(p % 3), p));
    g.finish();  // joins, and finds plain attributes
}

TEST_P(Checkpoint, ReadOnlyMemoryAndHolesCannotBeHeld) {
    Protected<> g(2, GetParam(), 7);
    g.s.disarm(Ipa(kRam), g.size());
    ASSERT_TRUE(g.s.unmap(Ipa(kRam + kChunk), kChunk));
    ASSERT_EQ(g.s.map(Ipa(kRam + kChunk), Pa(kAt), kChunk / 2, s2::NormalWb | s2::R), MapStatus::Ok);
    ASSERT_TRUE(g.s.arm(Ipa(kRam), g.size(), g.hardware));
    for (std::uint64_t p = 0; p < g.pages(); ++p) g.ask(p);
    EXPECT_EQ(g.hold(), kChunkPages) << "the first chunk only";
    EXPECT_EQ(g.s.write_fault(page_at(kChunkPages)), WriteFault::NotWritable);
    EXPECT_EQ(g.s.write_fault(page_at(kChunkPages + 300)), WriteFault::NotWritable);
    g.release_all();
    g.s.destroy();
    EXPECT_THAT(g.mmu.violations, IsEmpty());
}

TEST_P(Checkpoint, ReleasingLooksOnlyBelowTablesThatHoldSomething) {
    Protected<> g(4, GetParam(), 8);
    g.ask(600);
    g.hold();
    const unsigned before = g.mmu.writes, flushes = g.mmu.flushes;
    g.s.release(Ipa(kRam), g.size());
    EXPECT_EQ(g.mmu.writes - before, 4u + 1u) << "a look at each table's entry, one page";
    EXPECT_EQ(g.mmu.flushes, flushes) << "nothing was taken away";
    g.finish();
}

TEST_P(Checkpoint, OneFlushHoldsAnyNumberOfPages) {
    Protected<> g(4, GetParam(), 9);
    const unsigned before = g.mmu.flushes;
    EXPECT_EQ(g.hold(), 0u);
    EXPECT_EQ(g.mmu.flushes, before);
    for (std::uint64_t p = 0; p < g.pages(); ++p) g.ask(p);
    g.hold();
    EXPECT_EQ(g.mmu.flushes, before + 1);
    g.release_all();
    g.finish();
}

// The model must be able to lose: a hold whose flush does nothing.
struct Forgetful : FakeMmu {
    using FakeMmu::FakeMmu;
    bool armed = false;
    void flush_all(std::uint64_t vttbr) {
        if (!armed) FakeMmu::flush_all(vttbr);
    }
};

TEST_P(Checkpoint, WithoutTheFlushAWriteWouldHaveNoCopy) {
    Protected<Forgetful> g(1, GetParam(), 10);
    ASSERT_TRUE(g.write(1, 5));
    g.mmu.armed = true;
    g.hold();
    ASSERT_TRUE(g.write(1, 5));
    EXPECT_EQ(g.pool.used(), 0u);
    EXPECT_THAT(g.mmu.violations, Not(IsEmpty()));
}

// --- the pool ---------------------------------------------------------------------------------------------------------

TEST(CopyPool, WhatUserSpaceWritesIntoItDecidesNothing) {
    auto a = std::make_unique<abi::CopyChunk>(), b = std::make_unique<abi::CopyChunk>();
    abi::CopyChunk* chunks[] = {a.get(), b.get()};
    CopyPool pool;
    pool.give(chunks, 2);
    alignas(8) std::uint8_t bytes[kPage] = {1, 2, 3};
    for (std::uint64_t i = 0; i < 2 * abi::kCopiesPerChunk; ++i) {
        a->published = b->published = ~0ull;
        a->page[0] = ~0ull;
        ASSERT_TRUE(pool.take(i, bytes));
    }
    a->published = 0;
    EXPECT_FALSE(pool.take(0, bytes));
    EXPECT_EQ(b->published, abi::kCopiesPerChunk);
    EXPECT_EQ(b->page[510], 1021u);
    EXPECT_EQ(std::memcmp(b->copy[510], bytes, kPage), 0);
}

TEST(CopyPool, GivingItEmptiesItAndNoneIsFull) {
    auto a = std::make_unique<abi::CopyChunk>();
    a->published = 77;
    abi::CopyChunk* chunks[] = {a.get()};
    CopyPool pool;
    alignas(8) const std::uint8_t bytes[kPage] = {};
    EXPECT_FALSE(pool.take(1, bytes));
    pool.give(chunks, 1);
    EXPECT_EQ(a->published, 0u);
    EXPECT_TRUE(pool.take(1, bytes));
    pool.give(nullptr, 0);
    EXPECT_FALSE(pool.take(2, bytes));
    EXPECT_EQ(a->published, 1u) << "no longer ours";
}

}  // namespace
}  // namespace proa::hv::test
