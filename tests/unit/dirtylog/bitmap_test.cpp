// The two-level bitmap and the flat shared one against std::vector<bool>.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "dirtylog/bitmap.hpp"
#include "dirtylog/shared_words.hpp"

namespace proa::dirtylog {
namespace {

std::vector<bool> drained(Bitmap& b) {
    std::vector<bool> out(b.pages());
    std::uint64_t last = 0;
    bool first = true;
    b.drain([&](std::uint64_t w, std::uint64_t bits) {
        EXPECT_NE(bits, 0u);
        EXPECT_TRUE(first || w > last) << "ascending, each word once";
        first = false;
        last = w;
        for (; bits != 0; bits &= bits - 1)
            out.at(w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits))) = true;
    });
    return out;
}

class BitmapSize : public ::testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, BitmapSize,
                         ::testing::Values(1, 63, 64, 65, 4095, 4096, 4097, 64 * 64 * 3 + 17, 262'144));

TEST_P(BitmapSize, FillSetsEveryPageAndNoOther) {
    Bitmap b(GetParam());
    EXPECT_TRUE(b.empty());
    b.fill();
    EXPECT_EQ(b.count(), GetParam());
    EXPECT_EQ(drained(b), std::vector<bool>(GetParam(), true));
    EXPECT_TRUE(b.empty());
    EXPECT_EQ(b.count(), 0u);
}

TEST_P(BitmapSize, RandomLifeAgreesWithAVectorOfBool) {
    const std::uint64_t pages = GetParam();
    std::mt19937_64 random(pages);
    Bitmap b(pages), other(pages);
    std::vector<bool> model(pages), other_model(pages);
    for (unsigned n = 0; n < 3000; ++n) {
        const std::uint64_t p = random() % pages, w = p / 64;
        switch (random() % 64) {
            case 0:
                EXPECT_EQ(drained(b), model);
                model.assign(pages, false);
                break;
            case 1: {
                b.drain_into(other);
                for (std::uint64_t i = 0; i < pages; ++i) other_model[i] = other_model[i] || model[i];
                model.assign(pages, false);
                break;
            }
            case 2: {
                const std::uint64_t bits = b.take_word(w);
                for (std::uint64_t i = 0; i < 64; ++i) {
                    const bool had = w * 64 + i < pages && model[w * 64 + i];
                    EXPECT_EQ((bits >> i & 1) != 0, had);
                    if (had) model[w * 64 + i] = false;
                }
                break;
            }
            case 3: {
                std::uint64_t bits = random() & random();
                if (w == pages / 64) bits &= (1ull << (pages % 64)) - 1;
                b.or_word(w, bits);
                for (std::uint64_t i = 0; i < 64; ++i)
                    if ((bits >> i & 1) != 0) model[w * 64 + i] = true;
                break;
            }
            default:
                b.set(p);
                model[p] = true;
                break;
        }
        const std::uint64_t q = random() % pages;
        ASSERT_EQ(b.test(q), model[q]);
        if (n % 64 == 0) {
            const auto set = static_cast<std::uint64_t>(std::count(model.begin(), model.end(), true));
            ASSERT_EQ(b.count(), set);
            ASSERT_EQ(b.empty(), set == 0);
        }
    }
    EXPECT_EQ(drained(b), model);
    EXPECT_EQ(drained(other), other_model);
}

TEST(Bitmap, IsEmptyWhenItsWordsWereTakenOneByOne) {
    Bitmap b(1000);
    b.set(999);
    EXPECT_FALSE(b.empty());
    EXPECT_EQ(b.take_word(999 / 64), 1ull << (999 % 64));
    EXPECT_TRUE(b.empty());
    b.drain([](std::uint64_t, std::uint64_t) { FAIL() << "nothing is left"; });
}

TEST(BitmapView, WorksOnMemoryOfTheCaller) {
    std::uint64_t words[words_for(200)] = {}, summary[words_for(words_for(200))] = {};
    BitmapView v(words, summary, 200);
    v.set(130);
    EXPECT_EQ(words[2], 4u);
    EXPECT_EQ(BitmapView(words, summary, 200).count(), 1u);
}

// Device models set bits while the engine drains and copies: the copy ends up as new as the pages.
TEST(Bitmap, NoBitIsLostWhileItIsDrained) {
    constexpr std::uint64_t kPages = 64 * 64 * 4;
    constexpr unsigned kSetters = 3, kEach = 40'000;
    Bitmap b(kPages);
    std::vector<std::atomic<unsigned>> set(kPages);
    std::atomic<unsigned> running{kSetters};
    std::vector<std::thread> setters;
    for (unsigned t = 0; t < kSetters; ++t)
        setters.emplace_back([&, t] {
            std::mt19937 random(t);
            for (unsigned n = 0; n < kEach; ++n) {
                const std::uint64_t p = random() % 5 == 0 ? random() % kPages : random() % 100;
                ++set[p];  // the page's content changes first, then its bit
                b.set(p);
            }
            --running;
        });
    std::vector<unsigned> copied(kPages);
    const auto copy = [&] {
        b.drain([&](std::uint64_t w, std::uint64_t bits) {
            for (; bits != 0; bits &= bits - 1) {
                const std::uint64_t p = w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
                copied[p] = set[p];
            }
        });
    };
    while (running != 0) copy();
    for (auto& t : setters) t.join();
    copy();
    for (std::uint64_t p = 0; p < kPages; ++p) ASSERT_EQ(copied[p], set[p]) << "page " << p;
    EXPECT_TRUE(b.empty());
}

TEST(SharedWords, WhatIsPublishedIsTakenOnceAndOnlyFromTheRangeAskedFor) {
    std::vector<std::uint64_t> memory(32);
    const SharedWords hypervisor(memory.data()), user(memory.data());
    hypervisor.publish(3, 5);
    hypervisor.publish(3, 8);
    hypervisor.publish(16, 1);
    hypervisor.publish(20, 0);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> got;
    const auto note = [&](std::uint64_t w, std::uint64_t bits) { got.emplace_back(w, bits); };
    user.take(0, 16, note);
    EXPECT_EQ(got, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{3, 13}}));
    got.clear();
    user.take(0, 32, note);
    EXPECT_EQ(got, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{16, 1}}));
}

}  // namespace
}  // namespace proa::dirtylog
