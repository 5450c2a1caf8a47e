// Page batches: what is applied is what was added; whatever else a peer writes changes nothing.
#include "migrate/page_batch.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "dirtylog/bitmap.hpp"

namespace proa::migrate {
namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::uint64_t kZero = 1ull << 63, kPages = 64;

Bytes page_of(std::uint8_t v) {
    return Bytes(kPageBytes, v);
}
// A record by hand: the count may lie, the entries too.
Bytes record(std::uint64_t count, const std::vector<std::uint64_t>& entries, std::size_t plain_bytes) {
    Bytes b(8 + 8 * entries.size() + plain_bytes, 0xcc);
    std::memcpy(b.data(), &count, 8);
    if (!entries.empty()) std::memcpy(b.data() + 8, entries.data(), 8 * entries.size());
    return b;
}

TEST(PageBatch, ZeroPagesCostNoPayloadAndAllArrive) {
    BatchEncoder e;
    e.add(3, page_of(7));
    e.add(5, page_of(0));
    e.add(63, page_of(9));
    EXPECT_EQ(e.bytes().size(), 8 + 3 * 8 + 2 * kPageBytes);
    Bytes ram(kPages * kPageBytes, 0x55);
    const auto n = apply_batch(e.bytes(), ram);
    ASSERT_TRUE(n) << n.error().what;
    EXPECT_EQ(n->zero, 1u);
    EXPECT_EQ(n->plain, 2u);
    for (std::uint64_t p = 0; p < kPages; ++p)
        EXPECT_EQ(ram[p * kPageBytes + 100], p == 3 ? 7 : p == 5 ? 0 : p == 63 ? 9 : 0x55) << p;
}

TEST(PageBatch, RandomMemoryIsTheSameAfterItsBatches) {
    std::mt19937 random(3);
    Bytes from(600 * kPageBytes), to(from.size(), 0xee);
    for (std::size_t i = 0; i < from.size(); i += 1 + random() % 3000)
        if (i / kPageBytes % 3 != 0) from[i] = static_cast<std::uint8_t>(random());
    BatchEncoder e;
    for (std::uint64_t p = 0; p < 600; ++p) {
        e.add(p, std::span(from).subspan(p * kPageBytes, kPageBytes));
        if (!e.full() && p != 599) continue;
        ASSERT_TRUE(apply_batch(e.bytes(), to));
        e.clear();
        EXPECT_TRUE(e.empty());
    }
    EXPECT_EQ(from, to);
    EXPECT_EQ(e.counts().zero + e.counts().plain, 600u);
}

TEST(PageBatch, AZeroPageIsOnlyLookedForWhereSomethingWasWritten) {
    BatchEncoder first, again;
    for (const std::uint64_t p : {1, 2, 3}) first.add(p, page_of(p == 2 ? 0 : 7));
    for (const std::uint64_t p : {1, 2, 3}) again.add(p, page_of(p == 3 ? 9 : 0));
    dirtylog::Bitmap written(kPages);
    // That page 2 isn't new shows that it was not touched.
    Bytes ram(kPages * kPageBytes);
    ram[2 * kPageBytes] = 0x55;
    ASSERT_TRUE(apply_batch(first.bytes(), ram, &written));
    EXPECT_EQ(written.count(), 2u);
    ASSERT_TRUE(apply_batch(again.bytes(), ram, &written));
    EXPECT_EQ(ram[1 * kPageBytes], 0) << "written, and zero again";
    EXPECT_EQ(ram[2 * kPageBytes], 0x55);
    EXPECT_EQ(ram[3 * kPageBytes], 9);
    EXPECT_FALSE(apply_batch(record(1, {kPages}, kPageBytes), ram, &written));
    EXPECT_EQ(written.count(), 2u) << "nothing of a batch that is refused";
}

TEST(PageBatch, IsZeroSeesEveryByte) {
    Bytes p = page_of(0);
    EXPECT_TRUE(is_zero(p));
    for (std::size_t i = 0; i < p.size(); ++i) {
        p[i] = 1;
        ASSERT_FALSE(is_zero(p)) << i;
        p[i] = 0;
    }
}

TEST(PageBatch, HostileBatchesAreRefusedAndChangeNothing) {
    const Bytes before(kPages * kPageBytes, 0x55);
    const struct {
        const char* what;
        Bytes bytes;
    } cases[] = {
        {"nothing", {}},
        {"seven bytes", Bytes(7)},
        {"no page", record(0, {}, 0)},
        {"a count without entries", record(3, {1}, 0)},
        {"a count that wraps a length", record(~0ull, {1}, kPageBytes)},
        {"a count that wraps to a fit", record((1ull << 61) + 1, {1}, kPageBytes)},
        {"one more than a batch may hold",
         record(kMaxBatch + 1, std::vector<std::uint64_t>(kMaxBatch + 1, kZero), 0)},
        {"a page past the end", record(1, {kPages}, kPageBytes)},
        {"a zero page past the end", record(1, {kPages | kZero}, 0)},
        {"a page far past the end", record(1, {~kZero}, kPageBytes)},
        {"a good page, then one past the end", record(2, {1, kPages}, 2 * kPageBytes)},
        {"a page twice", record(2, {4, 4}, 2 * kPageBytes)},
        {"a page twice, once as zero", record(2, {4, 4 | kZero}, kPageBytes)},
        {"pages that descend", record(2, {5, 4}, 2 * kPageBytes)},
        {"a flag of a version to come", record(1, {4 | 1ull << 62}, kPageBytes)},
        {"a payload too short", record(1, {4}, kPageBytes - 1)},
        {"a payload too long", record(1, {4}, kPageBytes + 1)},
        {"a payload for a zero page", record(1, {4 | kZero}, kPageBytes)},
        {"no payload", record(1, {4}, 0)},
    };
    for (const auto& c : cases) {
        Bytes ram = before;
        const auto r = apply_batch(c.bytes, ram);
        ASSERT_FALSE(r) << c.what;
        EXPECT_NE(r.error().what.find("page batch refused: "), std::string::npos);
        EXPECT_EQ(ram, before) << c.what;
    }
}

TEST(PageBatch, MutatedBatchesNeverWriteWhatTheyDontName) {
    std::mt19937 random(11);
    BatchEncoder e;
    for (const std::uint64_t p : {2, 3, 9, 20}) e.add(p, page_of(p == 9 ? 0 : static_cast<std::uint8_t>(p)));
    const Bytes good(e.bytes().begin(), e.bytes().end());
    for (int n = 0; n < 20'000; ++n) {
        Bytes bad = good;
        for (unsigned k = 1 + random() % 4; k > 0; --k)
            bad[random() % 48] ^= static_cast<std::uint8_t>(1u << random() % 8);
        if (random() % 4 == 0) bad.resize(random() % bad.size());
        Bytes ram(kPages * kPageBytes, 0x55);
        const auto r = apply_batch(bad, ram);  // the sanitizers watch
        std::uint64_t touched = 0;
        for (std::uint64_t p = 0; p < kPages; ++p) touched += ram[p * kPageBytes] != 0x55;
        EXPECT_LE(touched, r ? r->zero + r->plain : 0u);
    }
}

}  // namespace
}  // namespace proa::migrate
