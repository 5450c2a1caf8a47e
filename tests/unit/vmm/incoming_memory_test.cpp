// Memory that is made present beside everything else: in order, once, and with an end that every waiter sees.
#include "vmm/process/incoming_memory.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <vector>

namespace proa::vmm {
namespace {

using namespace std::chrono_literals;

class IncomingMemoryTest : public ::testing::Test {
  protected:
    ~IncomingMemoryTest() override {
        work_.reset();
        thread_.join();
    }
    boost::asio::io_context io_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_ = make_work_guard(io_);
    std::thread thread_{[this] { io_.run(); }};
};

TEST_F(IncomingMemoryTest, IsMappedWhenEachChunkIsPresent) {
    std::vector<std::uint64_t> chunks;
    std::thread::id mapped_on;
    std::size_t present_at_map = 0;
    IncomingMemory m(
        io_, 5,
        [&](std::uint64_t c) {
            chunks.push_back(c);
            return Result<void>();
        },
        [&] {
            mapped_on = std::this_thread::get_id();
            present_at_map = chunks.size();
            return Result<void>();
        });
    EXPECT_TRUE(chunks.empty()) << "nobody has begun";
    m.begin();
    EXPECT_TRUE(m.within(1min).value());
    EXPECT_TRUE(m.within(0s).value()) << "more than one thread asks";
    EXPECT_TRUE(m.ready());
    EXPECT_EQ(chunks, (std::vector<std::uint64_t>{0, 1, 2, 3, 4}));
    EXPECT_EQ(present_at_map, 5u);
    EXPECT_EQ(mapped_on, thread_.get_id());
}

TEST_F(IncomingMemoryTest, AChunkThatCannotBeHadEndsIt) {
    std::atomic<unsigned> asked = 0, mapped = 0;
    IncomingMemory m(
        io_, 5,
        [&](std::uint64_t c) {
            ++asked;
            return c == 2 ? Result<void>(fail("no huge page left")) : Result<void>();
        },
        [&] {
            ++mapped;
            return Result<void>();
        });
    const auto r = m.within(1min);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().what, "no huge page left");
    EXPECT_FALSE(m.ready());
    EXPECT_EQ(asked, 3u);
    EXPECT_EQ(mapped, 0u);
}

TEST_F(IncomingMemoryTest, WhatCannotBeMappedIsNotReady) {
    IncomingMemory m(
        io_, 1, [](std::uint64_t) { return Result<void>(); }, [] { return Result<void>(fail("refused")); });
    EXPECT_FALSE(m.within(1min));
    EXPECT_FALSE(m.ready());
}

TEST_F(IncomingMemoryTest, IsNotReadyBeforeItsEndAndStopsBetweenChunks) {
    std::promise<void> first, go;
    std::atomic<unsigned> asked = 0;
    IncomingMemory m(
        io_, 1'000'000,
        [&](std::uint64_t) {
            if (++asked == 1) {
                first.set_value();
                go.get_future().wait();
            }
            return Result<void>();
        },
        [] { return Result<void>(); });
    m.begin();
    m.begin();
    first.get_future().wait();
    EXPECT_FALSE(m.ready());
    EXPECT_FALSE(m.within(1ms).value()) << "not yet";
    m.stop();
    go.set_value();
    EXPECT_FALSE(m.within(1min)) << "whoever waits must not wait for ever";
    EXPECT_EQ(asked, 1u);
    EXPECT_FALSE(m.ready());
}

}  // namespace
}  // namespace proa::vmm
