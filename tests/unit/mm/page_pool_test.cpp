// BuddyPool: blocks never overlap, are aligned and zeroed, come together again, and run out cleanly.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "fake_mmu.hpp"
#include "hypervisor/mm/pool.hpp"

namespace proa::hv {

// The host's stand-in for boot/memory.cpp.
PagePool& pool() {
    static PagePool p;
    return p;
}

namespace {

constexpr Pa kAt{0x8000'0000};

struct Arena {
    explicit Arena(std::uint64_t pages)
        : bytes(static_cast<std::uint8_t*>(
              std::aligned_alloc(4 << 20, (pages * kPage + (4 << 20) - 1) & ~((4ull << 20) - 1)))) {
        std::memset(bytes, 0xee, pages * kPage);
        pool.init(bytes, kAt, pages * kPage);
    }
    ~Arena() { std::free(bytes); }
    std::uint8_t* bytes;
    BuddyPool<test::NoLock> pool;
};

TEST(BuddyPool, GivesEveryPageOnceAndThenNothing) {
    for (const std::uint64_t pages : {2ull, 3ull, 511ull, 512ull, 5000ull}) {
        Arena a(pages);
        EXPECT_EQ(a.pool.total(), pages - (pages + kPage - 1) / kPage) << "its own map costs a byte a page";
        EXPECT_EQ(a.pool.available(), a.pool.total());
        std::map<void*, int> seen;
        while (void* p = a.pool.alloc()) EXPECT_EQ(seen[p]++, 0);
        EXPECT_EQ(seen.size(), a.pool.total());
        EXPECT_EQ(a.pool.available(), 0u);
        for (const auto& [p, n] : seen) a.pool.free(p);
        EXPECT_EQ(a.pool.available(), a.pool.total());
    }
}

TEST(BuddyPool, RefusesWhatIsLargerThanItsLargestBlock) {
    Arena a(4096);
    EXPECT_EQ(a.pool.alloc(BuddyPool<test::NoLock>::kMaxOrder + 1), nullptr);
    EXPECT_NE(a.pool.alloc(BuddyPool<test::NoLock>::kMaxOrder), nullptr);
}

TEST(BuddyPool, AddressesGoBothWays) {
    Arena a(64);
    void* p = a.pool.alloc(2);
    EXPECT_EQ(a.pool.ptr(a.pool.pa(p)), p);
    EXPECT_TRUE(a.pool.pa(p).aligned(4 * kPage));
    EXPECT_EQ(a.pool.pa(p) - kAt, static_cast<std::uint64_t>(static_cast<std::uint8_t*>(p) - a.bytes));
}

TEST(BuddyPool, FragmentsComeTogetherAgain) {
    Arena a(2048);
    std::vector<void*> big;
    while (void* p = a.pool.alloc(8)) big.push_back(p);
    for (void* p : big) a.pool.free(p, 8);
    std::vector<void*> pages;
    while (void* p = a.pool.alloc()) pages.push_back(p);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(3));
    for (void* p : pages) a.pool.free(p);
    std::size_t again = 0;
    while (a.pool.alloc(8) != nullptr) ++again;
    EXPECT_EQ(again, big.size());
}

// Random life: no byte of a block changes but by its owner, so no two overlap and the free lists stay in free memory.
TEST(BuddyPool, RandomBlocksNeverOverlapAndAreZeroed) {
    for (unsigned seed = 1; seed <= 5; ++seed) {
        Arena a(1500 + seed);
        std::mt19937 random(seed);
        struct Block {
            unsigned order;
            std::uint8_t mark;
        };
        std::map<std::uint8_t*, Block> live;
        std::uint64_t used = 0;
        for (unsigned n = 0; n < 5000; ++n) {
            if (random() % 100 < 55) {
                const unsigned order = random() % 3 == 0 ? random() % 7 : 0;
                auto* p = static_cast<std::uint8_t*>(a.pool.alloc(order));
                if (p == nullptr) {
                    EXPECT_GT(used + (1u << order), a.pool.total() / 2) << "refused while half of it is free";
                    continue;
                }
                const std::size_t size = kPage << order;
                ASSERT_EQ(static_cast<std::uint64_t>(p - a.bytes) % size, 0u);
                ASSERT_LE(p + size, a.bytes + (1500 + seed) * kPage);
                ASSERT_EQ(*p, 0);
                ASSERT_EQ(std::memcmp(p, p + 1, size - 1), 0) << "not zeroed";
                const auto mark = static_cast<std::uint8_t>(1 + random() % 255);
                std::memset(p, mark, size);
                live[p] = {order, mark};
                used += 1ull << order;
            } else if (!live.empty()) {
                auto it = live.begin();
                std::advance(it, static_cast<long>(random() % live.size()));
                const auto [p, b] = *it;
                ASSERT_EQ(*p, b.mark);
                ASSERT_EQ(std::memcmp(p, p + 1, (kPage << b.order) - 1), 0) << "somebody else wrote into it";
                a.pool.free(p, b.order);
                used -= 1ull << b.order;
                live.erase(it);
            }
            ASSERT_EQ(a.pool.available(), a.pool.total() - used);
        }
    }
}

TEST(Pool, OrdersCoverTheirBytes) {
    EXPECT_EQ(order_of(1), 0u);
    EXPECT_EQ(order_of(kPage), 0u);
    EXPECT_EQ(order_of(kPage + 1), 1u);
    EXPECT_EQ(order_of(5 * kPage), 3u);
}

TEST(Pool, AnObjectIsBuiltAndItsPagesComeBack) {
    static std::uint8_t memory[64 * kPage] __attribute__((aligned(4096)));
    pool().init(memory, kAt, sizeof(memory));
    static int alive;
    struct Large {
        explicit Large(int v) : value(v) { ++alive; }
        ~Large() { --alive; }
        int value;
        std::uint8_t rest[3 * kPage];
    };
    const std::uint64_t before = pool().available();
    Large* one = pool_new<Large>(7);
    ASSERT_NE(one, nullptr);
    EXPECT_EQ(one->value, 7);
    EXPECT_EQ(alive, 1);
    EXPECT_EQ(pool().available(), before - 4);
    pool_delete(one);
    pool_delete<Large>(nullptr);
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(pool().available(), before);
    std::vector<Large*> all;
    while (Large* p = pool_new<Large>(1)) all.push_back(p);
    EXPECT_EQ(all.size(), before / 4);
    for (Large* p : all) pool_delete(p);
}

}  // namespace
}  // namespace proa::hv
