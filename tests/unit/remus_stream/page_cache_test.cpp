#include "remus/page_cache.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "remus/pages.hpp"
#include "tests/support/checkpoint.hpp"

namespace proa::remus {
namespace {

constexpr std::uint64_t kSet = 4;  // a cache of this many pages is one set: all compete

std::uint64_t found(PageCache& c, std::uint64_t first, std::uint64_t end) {
    std::uint64_t n = 0;
    for (std::uint64_t p = first; p < end; ++p) n += c.find(p) != nullptr;
    return n;
}

TEST(PageCache, HoldsTheLastContentsOfAPage) {
    PageCache c(100, kSet * kPageBytes);
    EXPECT_EQ(c.find(7), nullptr);
    c.put(7, test::page_of(1).data());
    c.put(7, test::page_of(2).data());
    ASSERT_NE(c.find(7), nullptr);
    EXPECT_EQ(c.find(7)[4095], 2);
    c.drop(7);
    EXPECT_EQ(c.find(7), nullptr);
}

TEST(PageCache, APageOfThisCheckpointOrTheLastOneIsNotPushedOut) {
    PageCache c(100, kSet * kPageBytes);
    for (std::uint64_t p = 0; p < kSet; ++p) c.put(p, test::page_of(1).data());
    for (int checkpoint = 0; checkpoint < 2; ++checkpoint) {
        for (std::uint64_t p = 10; p < 20; ++p) c.put(p, test::page_of(2).data());
        EXPECT_EQ(c.find(10), nullptr);
        c.next_checkpoint();
    }
    c.put(10, test::page_of(2).data());
    EXPECT_NE(c.find(10), nullptr);
    EXPECT_EQ(found(c, 0, kSet), kSet - 1);
}

// More pages than fit, each checkpoint, in the same order: what is here stays and is found again, where "the oldest goes"
// would find nothing ever.
TEST(PageCache, AWorkingSetThatIsTooLargeStillFindsWhatFits) {
    PageCache c(100, kSet * kPageBytes);
    for (int checkpoint = 0; checkpoint < 10; ++checkpoint) {
        const std::uint64_t n = found(c, 0, 3 * kSet);
        EXPECT_EQ(n, checkpoint == 0 ? 0 : kSet) << checkpoint;
        for (std::uint64_t p = 0; p < 3 * kSet; ++p) c.put(p, test::page_of(1).data());
        c.next_checkpoint();
    }
}

TEST(PageCache, IsNoLargerThanTheGuestOrItsBound) {
    PageCache none(100, kPageBytes * kSet - 1), tiny(3, 1ull << 40);
    none.put(1, test::page_of(1).data());
    EXPECT_EQ(none.find(1), nullptr);
    none.drop(1);
    none.clear();
    for (std::uint64_t p = 0; p < 3; ++p) tiny.put(p, test::page_of(1).data());
    EXPECT_EQ(found(tiny, 0, 3), 3u);
    tiny.clear();
    EXPECT_EQ(found(tiny, 0, 3), 0u);
}

}  // namespace
}  // namespace proa::remus
