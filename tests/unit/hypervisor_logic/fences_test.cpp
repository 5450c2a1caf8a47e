// When guests must stop by themselves.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "hypervisor/domain/fences.hpp"

namespace proa::hv {
namespace {

TEST(Fences, NoneMeansNever) {
    Fences f;
    EXPECT_EQ(f.earliest(), Fences::kNever);
    EXPECT_EQ(f.take_due(~0ull), 0u);
    EXPECT_FALSE(f.passed(1, ~0ull - 1));
    f.set(1, 100);
    f.set(1, 0);
    EXPECT_FALSE(f.passed(1, 1000));
    EXPECT_EQ(f.earliest(), Fences::kNever);
}

TEST(Fences, TheEarliestIsWatched) {
    Fences f;
    f.set(3, 300);
    f.set(7, 200);
    EXPECT_EQ(f.earliest(), 200u);
    f.set(7, 400);
    EXPECT_EQ(f.earliest(), 300u) << "moved away";
    f.set(16, 1);
    EXPECT_EQ(f.earliest(), 1u) << "moved into the past: at once";
}

TEST(Fences, FiresOnceAndKeepsTheGuestFromRunning) {
    Fences f;
    f.set(2, 100);
    EXPECT_EQ(f.take_due(99), 0u);
    EXPECT_FALSE(f.passed(2, 99));
    EXPECT_EQ(f.take_due(100), 2u);
    EXPECT_EQ(f.take_due(1000), 0u);
    EXPECT_EQ(f.earliest(), Fences::kNever) << "nothing to watch any more";
    EXPECT_TRUE(f.passed(2, 1000)) << "but it has passed";
    f.set(2, 2000);
    EXPECT_FALSE(f.passed(2, 1000));
    EXPECT_EQ(f.earliest(), 2000u);
    EXPECT_EQ(f.take_due(2000), 2u) << "a new fence is a new one";
}

TEST(Fences, NobodyIsForgottenWhateverTheOrder) {
    std::mt19937 random(1);
    for (unsigned round = 0; round < 200; ++round) {
        Fences f;
        std::uint64_t at[abi::kGuestSlots + 1] = {};
        for (unsigned s = 1; s <= abi::kGuestSlots; ++s) f.set(s, at[s] = random() % 50);
        std::set<unsigned> fired;
        for (std::uint64_t now = 0; now < 50; ++now) {
            if (now < f.earliest()) continue;
            while (const unsigned s = f.take_due(now)) {
                EXPECT_EQ(at[s], now) << "at the first look";
                EXPECT_TRUE(fired.insert(s).second);
            }
            EXPECT_GT(f.earliest(), now);
        }
        for (unsigned s = 1; s <= abi::kGuestSlots; ++s) EXPECT_EQ(fired.contains(s), at[s] != 0);
    }
}

}  // namespace
}  // namespace proa::hv
