// Page records: each page travels as what is cheapest, what comes out is what went in, and hostile records name no page,
// byte or word outside of what they may.
#include "remus/pages.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <stdexcept>

#include "remus/page_delta.hpp"
#include "remus/page_record.hpp"
#include "tests/support/checkpoint.hpp"

namespace proa::remus {
namespace {

using migrate::Bytes;
using migrate::View;
using page_record::Entry;
using page_record::Kind;
using test::page_of;
constexpr std::uint64_t kPages = 64, kCache = kPages * kPageBytes;
constexpr std::uint64_t kAnyAmount = ~0ull;

Bytes noise(std::uint32_t seed) {
    std::mt19937 random(seed);
    Bytes b(kPageBytes);
    for (auto& v : b) v = static_cast<std::uint8_t>(random());
    return b;
}
Bytes record_of(PageEncoder& e) {
    const auto r = e.take();
    return {r.begin(), r.end()};
}
// What a backup's memory holds after `record`, or the reason why it didn't take it.
transport::Result<Bytes> applied(Bytes ram, View record) {
    const auto u = decode_pages(record, ram, kAnyAmount);
    if (!u) return tl::unexpected(u.error());
    for (const auto& p : u->pages) {
        std::uint8_t* to = ram.data() + p.number * kPageBytes;
        std::memset(to, 0, kPageBytes);
        if (!p.bytes.empty()) std::memcpy(to, p.bytes.data(), kPageBytes);
    }
    return ram;
}

TEST(PageEncoder, APageIsSentOnceAndThenOnlyWhenItHasChanged) {
    PageEncoder e(kPages, kCache);
    e.add(3, page_of(7));
    e.add(4, page_of(0));
    EXPECT_EQ(record_of(e).size(), 8 + 2 * 8 + kPageBytes);
    e.commit();
    e.add(3, page_of(7));
    e.add(4, page_of(0));
    EXPECT_TRUE(e.empty());
    EXPECT_TRUE(e.take().empty());
    EXPECT_EQ(e.counts().unchanged, 2u);
    EXPECT_EQ(e.counts().plain, 1u);
    EXPECT_EQ(e.counts().zero, 1u);
    EXPECT_EQ(e.counts().sent(), 2u);
    EXPECT_EQ(e.counts().bytes, 8 + 2 * 8 + kPageBytes);
}

TEST(PageEncoder, OneChangedWordCostsItsDeltaOnly) {
    PageEncoder e(kPages, kCache);
    auto page = noise(1);
    e.add(3, page);
    Bytes ram(kPages * kPageBytes, 0x55);
    ram = applied(ram, record_of(e)).value();
    e.commit();
    page[4095] ^= 1;
    e.add(3, page);
    EXPECT_EQ(e.counts().delta, 1u);
    const auto record = record_of(e);
    EXPECT_EQ(record.size(), 8 + 8 + page_record::kCheckBytes + kLeastDelta);
    ram = applied(ram, record).value();
    EXPECT_EQ(std::memcmp(ram.data() + 3 * kPageBytes, page.data(), kPageBytes), 0);
}

TEST(PageEncoder, APageMostOfWhichHasChangedGoesPlain) {
    PageEncoder e(kPages, kCache);
    e.add(3, noise(1));
    e.take();
    e.commit();
    e.add(3, noise(2));
    EXPECT_EQ(e.counts().plain, 2u);
    EXPECT_EQ(e.counts().delta, 0u);
}

TEST(PageEncoder, APageThatWasZeroIsADeltaWithoutAnyCache) {
    PageEncoder e(kPages, 0);
    e.add(3, page_of(0));
    auto page = page_of(0);
    Bytes ram = applied(Bytes(kPages * kPageBytes, 0x55), record_of(e)).value();
    page[9] = 9;
    e.add(3, page);
    EXPECT_EQ(e.counts().delta, 1u);
    ram = applied(ram, record_of(e)).value();
    EXPECT_EQ(ram[3 * kPageBytes + 9], 9);
    EXPECT_EQ(ram[3 * kPageBytes + 10], 0);
    page[10] = 1;
    e.add(3, page);
    EXPECT_EQ(e.counts().plain, 1u);  // no cache: no delta against what isn't zero
}

TEST(PageEncoder, AfterAResetNothingIsTakenForKnown) {
    PageEncoder e(kPages, kCache);
    e.add(3, page_of(7));
    e.add(4, page_of(0));
    e.take();
    e.commit();
    e.add(5, page_of(1));  // never taken
    e.reset();
    EXPECT_TRUE(e.empty());
    auto page = page_of(7);
    page[0] = 1;
    e.add(3, page);
    e.add(4, page_of(0));
    EXPECT_EQ(e.counts().delta, 0u);
    EXPECT_EQ(e.counts().unchanged, 0u);
    const auto ram = applied(Bytes(kPages * kPageBytes, 0x55), record_of(e));
    ASSERT_TRUE(ram) << ram.error().what;
    EXPECT_EQ((*ram)[4 * kPageBytes], 0);
}

TEST(PageEncoder, IsFullWhenARecordMayHoldNoMoreAndItFitsAFrame) {
    PageEncoder e(kMaxPages + 1, 0);
    for (std::uint64_t p = 0; p < kMaxPages; ++p) {
        EXPECT_FALSE(e.full());
        e.add(p, noise(static_cast<std::uint32_t>(p)));
    }
    EXPECT_TRUE(e.full());
    EXPECT_THROW(e.add(kMaxPages, page_of(1)), std::logic_error);
    const auto record = record_of(e);
    EXPECT_LE(record.size(), transport::kMaxPayload);
    EXPECT_TRUE(e.empty());
    const auto u = decode_pages(record, Bytes((kMaxPages + 1) * kPageBytes), kAnyAmount);
    ASSERT_TRUE(u) << u.error().what;
    EXPECT_EQ(u->pages.size(), kMaxPages);
}

TEST(PageEncoder, RefusesPagesThatAreNotTheGuestsOrNotInTurn) {
    PageEncoder e(kPages, kCache);
    e.add(5, page_of(1));
    EXPECT_THROW(e.add(5, page_of(2)), std::logic_error);
    EXPECT_THROW(e.add(4, page_of(2)), std::logic_error);
    EXPECT_THROW(e.add(kPages, page_of(2)), std::logic_error);
    EXPECT_THROW(e.add(6, Bytes(4095)), std::logic_error);
    e.take();
    e.add(1, page_of(2));  // a fresh record begins anywhere
    EXPECT_FALSE(e.empty());
}

TEST(PageDelta, EveryPairOfPagesComesBackOrDoesNotFit) {
    std::mt19937 random(9);
    for (int n = 0; n < 3'000; ++n) {
        const Bytes base = noise(random());
        Bytes page = base, room(1 + random() % kPageBytes, 0xee);
        for (unsigned k = random() % 300; k > 0; --k)
            page[random() % kPageBytes] ^= static_cast<std::uint8_t>(random());
        const std::size_t size = encode_delta(page.data(), base.data(), room);
        ASSERT_LE(size, room.size());
        std::size_t words = 0, groups = 0;
        for (std::size_t g = 0; g < 8; ++g) groups += std::memcmp(&page[512 * g], &base[512 * g], 512) != 0;
        for (std::size_t i = 0; i < kPageBytes; i += 8) words += std::memcmp(&page[i], &base[i], 8) != 0;
        const std::size_t want = 1 + 8 * groups + 8 * words;
        ASSERT_EQ(size, words != 0 && want <= room.size() ? want : 0u);
        if (size == 0) continue;
        Bytes back = base;
        ASSERT_TRUE(apply_delta(View(room).first(size), back.data()));
        ASSERT_EQ(back, page);
    }
}

TEST(PageDelta, AnyOtherBytesAreRefusedOrStayInsideOfThePage) {
    std::mt19937 random(10);
    for (int n = 0; n < 30'000; ++n) {
        Bytes delta(random() % 200);
        for (auto& b : delta) b = static_cast<std::uint8_t>(random() % 3 == 0 ? random() : 0);
        Bytes page(kPageBytes);  // the sanitizers watch its ends
        (void)apply_delta(delta, page.data());
    }
    Bytes page(kPageBytes);
    const auto refused = [&](Bytes d) { return !apply_delta(d, page.data()); };
    EXPECT_TRUE(refused({}));
    EXPECT_TRUE(refused(Bytes(17)));  // no group
    Bytes d(17);
    d[0] = 1;
    EXPECT_TRUE(refused(d));  // a group without a word
    d[1] = 3;
    EXPECT_TRUE(refused(d));  // two words, one there
    d[1] = 1;
    EXPECT_FALSE(refused(d));
    d.resize(25);
    EXPECT_TRUE(refused(d));  // a word too many
    d.resize(24);
    EXPECT_TRUE(refused(d));
}

Bytes record(std::uint64_t count, const std::vector<Entry>& entries, const Bytes& payload) {
    Bytes b(8 + 8 * entries.size());
    std::memcpy(b.data(), &count, 8);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const std::uint64_t e = entries[i].packed();
        std::memcpy(b.data() + 8 + 8 * i, &e, 8);
    }
    b.insert(b.end(), payload.begin(), payload.end());
    return b;
}

TEST(PageDecoder, HostileRecordsAreRefused) {
    const Bytes ram(kPages * kPageBytes, 0x55), page = page_of(1);
    const auto twice = [](std::uint64_t a, std::uint64_t b) {
        return std::vector<Entry>{{a, 0, Kind::Zero}, {b, 0, Kind::Zero}};
    };
    const struct {
        const char* what;
        Bytes bytes;
    } cases[] = {
        {"nothing", {}},
        {"seven bytes", Bytes(7)},
        {"no page", record(0, {}, {})},
        {"a count without entries", record(3, {{1, 0, Kind::Zero}}, {})},
        {"a count that wraps", record(~0ull, {{1, 0, Kind::Zero}}, {})},
        {"a count that wraps to a fit", record((1ull << 61) + 1, {{1, 0, Kind::Zero}}, {})},
        {"too many", record(kMaxPages + 1, std::vector<Entry>(kMaxPages + 1, {1, 0, Kind::Zero}), {})},
        {"a page past the end", record(1, {{kPages, 0, Kind::Plain}}, page)},
        {"a zero page past the end", record(1, {{kPages, 0, Kind::Zero}}, {})},
        {"a delta far past the end", record(1, {{(1ull << 48) - 1, 25, Kind::Delta}}, Bytes(25))},
        {"a page twice", record(2, twice(4, 4), {})},
        {"pages that descend", record(2, twice(5, 4), {})},
        {"an unknown kind", record(1, {{4, 0, static_cast<Kind>(3)}}, {})},
        {"a plain page with a length", record(1, {{4, 100, Kind::Plain}}, page)},
        {"a zero page with a length", record(1, {{4, 100, Kind::Zero}}, {})},
        {"a payload too short", record(1, {{4, 0, Kind::Plain}}, Bytes(4095))},
        {"a payload too long", record(1, {{4, 0, Kind::Plain}}, Bytes(4097))},
        {"a payload for a zero page", record(1, {{4, 0, Kind::Zero}}, page)},
        {"a delta too short for its check", record(1, {{4, 7, Kind::Delta}}, Bytes(7))},
        {"a delta of nothing", record(1, {{4, 0, Kind::Delta}}, {})},
        {"a delta of zeros", record(1, {{4, 25, Kind::Delta}}, Bytes(25))},
        {"a delta longer than half a page", record(1, {{4, 2049, Kind::Delta}}, Bytes(2049, 0xff))},
    };
    for (const auto& c : cases) {
        const auto r = decode_pages(c.bytes, ram, kAnyAmount);
        ASSERT_FALSE(r) << c.what;
        EXPECT_NE(r.error().what.find("peer's pages refused: "), std::string::npos) << c.what;
    }
    EXPECT_TRUE(decode_pages(record(2, twice(4, 5), {}), ram, kAnyAmount));
}

TEST(PageDecoder, ADeltaAgainstWhatThisBackupDoesNotHaveIsFound) {
    PageEncoder e(kPages, kCache);
    auto page = noise(1);
    e.add(3, page);
    Bytes ram = applied(Bytes(kPages * kPageBytes), record_of(e)).value();
    e.commit();
    page[100] ^= 0x40;
    e.add(3, page);
    const Bytes delta = record_of(e);
    EXPECT_TRUE(applied(ram, delta));
    ram[3 * kPageBytes + 3000] ^= 1;
    const auto r = applied(ram, delta);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().what.find("something that this backup doesn't have"), std::string::npos);
}

TEST(PageDecoder, TakesNoMoreMemoryThanItMay) {
    PageEncoder e(kPages, kCache);
    for (std::uint64_t p = 0; p < 8; ++p) e.add(p, page_of(p % 2 == 0 ? 0 : 1));
    const Bytes record = record_of(e), ram(kPages * kPageBytes);
    const std::uint64_t needs = 8 * sizeof(PageUpdate) + 4 * kPageBytes;
    EXPECT_FALSE(decode_pages(record, ram, needs - 1));
    const auto u = decode_pages(record, ram, needs);
    ASSERT_TRUE(u) << u.error().what;
    EXPECT_EQ(u->held_bytes, needs);
}

TEST(PageDecoder, EveryTruncationAndFlippedBitIsRefusedOrStaysInBounds) {
    const Bytes good = test::SampleStream().second[1].payload;
    Bytes ram(test::kRamPages * kPageBytes);
    ram = applied(ram, test::SampleStream().first[1].payload).value();
    ASSERT_TRUE(applied(ram, good));
    for (std::size_t n = 0; n < good.size(); ++n) ASSERT_FALSE(applied(ram, View(good).first(n))) << n;
    for (std::size_t at = 0; at < good.size(); ++at)
        for (unsigned bit = 0; bit < 8; bit += at < 128 ? 1 : 7) {
            Bytes bad = good;
            bad[at] ^= static_cast<std::uint8_t>(1u << bit);
            const auto u = decode_pages(bad, ram, kAnyAmount);
            if (!u) continue;
            ASSERT_LE(u->pages.size(), 3u);
            for (const auto& p : u->pages) ASSERT_LT(p.number, test::kRamPages);
        }
}

}  // namespace
}  // namespace proa::remus
