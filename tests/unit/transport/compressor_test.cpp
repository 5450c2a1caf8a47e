// When compression is used, and that it always comes back as it was.
#include <gtest/gtest.h>
#include <zstd.h>

#include <random>

#include "transport/frame.hpp"

namespace proa::transport {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes noise(std::size_t n) {
    std::mt19937 random(1);
    Bytes b(n);
    for (auto& x : b) x = static_cast<std::uint8_t>(random());
    return b;
}
Bytes text(std::size_t n) {
    Bytes b(n);
    for (std::size_t i = 0; i < n; ++i) b[i] = static_cast<std::uint8_t>("compress me, please "[i % 20]);
    return b;
}

constexpr double kSlowLink = 1e3, kEndlessLink = 1e15;

TEST(Compressor, OffMeansOff) {
    Compressor c(Compressor::kOff);
    EXPECT_TRUE(c.compress(text(100'000)).empty());
}

TEST(Compressor, WhatItReturnsDecompressesToTheInput) {
    for (const int level : {Compressor::kAuto, 1, 3, 19}) {
        Compressor c(level);
        c.link_speed(kSlowLink);
        const Bytes in = text(300'000);
        const auto out = c.compress(in);
        ASSERT_FALSE(out.empty()) << level;
        EXPECT_LT(out.size(), in.size() / 10);
        Bytes back(in.size());
        ASSERT_EQ(ZSTD_decompress(back.data(), back.size(), out.data(), out.size()), in.size());
        EXPECT_EQ(back, in);
    }
}

TEST(Compressor, NeverMakesABatchLonger) {
    for (const int level : {Compressor::kAuto, 1, 19}) {
        Compressor c(level);
        c.link_speed(kSlowLink);
        for (const std::size_t n : {0u, 1u, 63u, 64u, 4096u, 200'000u}) {
            const Bytes in = noise(n);
            const auto out = c.compress(in);
            EXPECT_TRUE(out.empty() || out.size() < n) << level << " " << n;
        }
    }
}

TEST(Compressor, AutoDoesNothingUntilItKnowsWhatTheLinkTakes) {
    Compressor c(Compressor::kAuto);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(c.compress(text(100'000)).empty());
    c.link_speed(kSlowLink);
    EXPECT_FALSE(c.compress(text(100'000)).empty()) << "and was not resting";
}

TEST(Compressor, AutoRestsAfterABatchThatDoesNotShrinkLongerEachTime) {
    Compressor c(Compressor::kAuto);
    c.link_speed(kSlowLink);
    for (const int rest : {15, 31, 63, 127, 255, 255}) {
        EXPECT_TRUE(c.compress(noise(100'000)).empty());
        for (int i = 0; i < rest; ++i) EXPECT_TRUE(c.compress(text(1'000)).empty()) << "rests " << rest;
    }
    EXPECT_FALSE(c.compress(text(100'000)).empty()) << "then tries again";
    EXPECT_TRUE(c.compress(noise(100'000)).empty());
    for (int i = 0; i < 15; ++i) EXPECT_TRUE(c.compress(text(1'000)).empty());
    EXPECT_FALSE(c.compress(text(100'000)).empty()) << "what pays once is tried again as soon as at first";
}

TEST(Compressor, AutoTriesTheMiddleOfABatch) {
    Compressor c(Compressor::kAuto);
    c.link_speed(kSlowLink);
    Bytes batch = noise(1'000'000);
    std::fill(batch.begin() + 300'000, batch.begin() + 700'000, std::uint8_t{7});
    const auto out = c.compress(batch);
    ASSERT_FALSE(out.empty());
    Bytes back(batch.size());
    ASSERT_EQ(ZSTD_decompress(back.data(), back.size(), out.data(), out.size()), batch.size()) << "all of it";
    EXPECT_EQ(back, batch);
}

TEST(Compressor, AutoRestsOnALinkThatIsFasterThanTheProcessor) {
    Compressor c(Compressor::kAuto);
    c.link_speed(kEndlessLink);
    (void)c.compress(text(100'000));  // the sample shows that it doesn't pay
    EXPECT_TRUE(c.compress(text(100'000)).empty());
    Compressor slow(Compressor::kAuto);
    slow.link_speed(kSlowLink);
    (void)slow.compress(text(100'000));
    EXPECT_FALSE(slow.compress(text(100'000)).empty());
}

}  // namespace
}  // namespace proa::transport
