#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "hypervisor/sched/scheduler.hpp"

namespace proa::hv {
namespace {

constexpr std::uint64_t kSlice = 10'000, kMillisecond = 1'000;

// Runs nodes that never sleep for `ticks` on `pcpus`; what each got.
struct Simulation {
    explicit Simulation(unsigned pcpus) : cpus(pcpus), current(pcpus) {
        s.init({.pcpus = pcpus, .slice = kSlice, .granularity = kMillisecond, .window = 100 * kMillisecond});
    }
    SchedNode& add(std::uint32_t weight, std::uint64_t affinity = ~0ull) {
        nodes.push_back(std::make_unique<SchedNode>());
        nodes.back()->weight = weight;
        nodes.back()->affinity = affinity;
        ran.push_back(0);
        s.wake(*nodes.back(), now);
        return *nodes.back();
    }
    void run(std::uint64_t ticks) {
        for (const std::uint64_t end = now + ticks; now < end; now += kMillisecond)
            for (unsigned p = 0; p < cpus; ++p) {
                if (current[p] != nullptr) {
                    s.account(*current[p], kMillisecond, now);
                    for (std::size_t i = 0; i < nodes.size(); ++i)
                        if (nodes[i].get() == current[p]) ran[i] += kMillisecond;
                    if (now < until[p] && current[p]->state == SchedNode::State::Running) continue;
                    s.requeue(*current[p], now >= until[p]);
                }
                const auto c = s.pick(p, now);
                current[p] = c.node;
                until[p] = c.until;
                if (c.node != nullptr) {
                    EXPECT_TRUE((c.node->affinity >> p & 1) != 0) << "ran where it must not";
                }
            }
    }
    unsigned cpus;
    Scheduler s;
    std::vector<std::unique_ptr<SchedNode>> nodes;
    std::vector<std::uint64_t> ran;
    std::vector<SchedNode*> current;
    std::uint64_t until[kSchedPcpus] = {};
    std::uint64_t now = 1'000'000;
};

TEST(Scheduler, TimeFollowsTheWeights) {
    Simulation sim(1);
    sim.add(256);
    sim.add(512);
    sim.add(1024);
    sim.run(20'000 * kMillisecond);
    EXPECT_NEAR(static_cast<double>(sim.ran[1]) / static_cast<double>(sim.ran[0]), 2, 0.1);
    EXPECT_NEAR(static_cast<double>(sim.ran[2]) / static_cast<double>(sim.ran[0]), 4, 0.2);
}

TEST(Scheduler, NobodyStarvesHoweverSmallTheWeight) {
    Simulation sim(2);
    for (int i = 0; i < 7; ++i) sim.add(4096);
    sim.add(16);
    sim.run(60'000 * kMillisecond);
    EXPECT_GT(sim.ran[7], 0u);
}

TEST(Scheduler, APinnedNodeStaysAndAnIdleCpuSteals) {
    Simulation sim(4);
    sim.add(256, 1);
    for (int i = 0; i < 3; ++i) sim.add(256);
    sim.run(1'000 * kMillisecond);
    for (const std::uint64_t r : sim.ran) EXPECT_GT(r, 900 * kMillisecond) << "four nodes, four CPUs";
}

TEST(Scheduler, AThrottledNodeStaysWithinItsShare) {
    for (const unsigned percent : {20u, 50u, 90u}) {
        Simulation sim(1);
        sim.add(256).throttle = static_cast<std::uint8_t>(percent);
        sim.run(10'000 * kMillisecond);
        EXPECT_NEAR(static_cast<double>(sim.ran[0]) / (10'000.0 * kMillisecond), 1 - percent / 100.0, 0.05);
    }
}

TEST(Scheduler, ANodeThatSleptPreemptsOneThatComputes) {
    Simulation sim(1);
    sim.add(256);
    SchedNode sleeper;
    sleeper.weight = 256;
    sim.run(500 * kMillisecond);
    EXPECT_TRUE(sim.s.wake(sleeper, sim.now).preempt);
    sim.s.remove(sleeper);
}

}  // namespace
}  // namespace proa::hv
