// The scheduler's rules under load that changes: shares when there are more vCPUs than CPUs, how long a woken vCPU
// waits, pinning, and that no vCPU is ever lost or in two places.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "hypervisor/sched/scheduler.hpp"

namespace proa::hv {
namespace {

constexpr std::uint64_t kTick = 100, kMs = 1'000, kSlice = 10 * kMs;

// What the dispatcher does, one tick at a time: account, requeue at the end of a slice, pick.
struct Host {
    struct Task {
        SchedNode node;
        std::uint64_t ran = 0, woken = 0, worst_wait = 0;
        // Runs `burst`, then sleeps `pause`; burst 0: never sleeps.
        std::uint64_t burst = 0, pause = 0, left = 0, sleeps_until = 0;
        bool waiting = false;
    };
    explicit Host(unsigned pcpus) : cpus(pcpus), current(pcpus), until(pcpus, ~0ull), again(pcpus) {
        s.init({.pcpus = pcpus, .slice = kSlice, .granularity = kMs, .window = 100 * kMs});
    }
    Task& add(std::uint32_t weight = 256, std::uint64_t affinity = ~0ull, std::uint64_t burst = 0,
              std::uint64_t pause = 0) {
        tasks.push_back(std::make_unique<Task>());
        Task& t = *tasks.back();
        t.node.weight = weight;
        t.node.affinity = affinity;
        t.burst = t.left = burst;
        t.pause = pause;
        wake(t);
        return t;
    }
    void wake(Task& t) {
        const auto p = s.wake(t.node, now);
        EXPECT_TRUE((t.node.affinity >> p.pcpu & 1) != 0);
        if (p.preempt || until[p.pcpu] == ~0ull) again[p.pcpu] = true;
        t.woken = now;
        t.waiting = true;
        t.left = t.burst;
    }
    void step() {
        for (auto& t : tasks)
            if (t->node.state == SchedNode::State::Out && t->sleeps_until <= now) wake(*t);
        for (unsigned p = 0; p < cpus; ++p) {
            Task* t = current[p];
            bool slept = false;
            if (t != nullptr) {
                s.account(t->node, kTick, now);
                t->ran += kTick;
                if (t->burst != 0 && (t->left -= std::min(t->left, kTick)) == 0) {
                    s.remove(t->node);
                    t->sleeps_until = now + t->pause;
                    slept = true;
                }
            }
            if (t != nullptr && !slept && !again[p] && now < until[p]) continue;
            again[p] = false;
            if (t != nullptr && !slept) {
                s.requeue(t->node, now >= until[p]);
                if (t->node.pcpu != p && until[t->node.pcpu] == ~0ull) again[t->node.pcpu] = true;
            }
            const auto c = s.pick(p, now);
            current[p] = nullptr;
            for (auto& candidate : tasks)
                if (&candidate->node == c.node) current[p] = candidate.get();
            until[p] = c.until;
            if (current[p] != nullptr && current[p]->waiting) {
                current[p]->waiting = false;
                current[p]->worst_wait = std::max(current[p]->worst_wait, now - current[p]->woken);
            }
        }
        check();
        now += kTick;
    }
    void run(std::uint64_t ticks) {
        for (const std::uint64_t end = now + ticks; now < end;) step();
    }
    void check() {
        std::set<const SchedNode*> running;
        for (unsigned p = 0; p < cpus; ++p) {
            if (current[p] == nullptr) continue;
            const SchedNode& n = current[p]->node;
            ASSERT_EQ(s.running(p), &n);
            ASSERT_EQ(n.state, SchedNode::State::Running);
            ASSERT_EQ(n.pcpu, p);
            ASSERT_TRUE((n.affinity >> p & 1) != 0) << "runs where it must not";
            ASSERT_TRUE(running.insert(&n).second) << "runs on two CPUs";
        }
        for (const auto& t : tasks)
            ASSERT_EQ(t->node.state == SchedNode::State::Running, running.count(&t->node) == 1);
    }
    double share(const Task& t, std::uint64_t since = 1'000'000) const {
        return static_cast<double>(t.ran) / static_cast<double>(now - since);
    }

    unsigned cpus;
    Scheduler s;
    std::vector<std::unique_ptr<Task>> tasks;
    std::vector<Task*> current;
    std::vector<std::uint64_t> until;
    std::vector<bool> again;
    std::uint64_t now = 1'000'000;
};

TEST(Overcommit, EqualVcpusGetEqualSharesOfAllCpus) {
    struct Case {
        unsigned cpus, vcpus;
    };
    for (const auto& [cpus, vcpus] :
         {Case{2, 3}, Case{2, 5}, Case{4, 6}, Case{3, 7}, Case{2, 4}, Case{4, 13}}) {
        Host h(cpus);
        for (unsigned i = 0; i < vcpus; ++i) h.add();
        h.run(20'000 * kMs);
        const double fair = static_cast<double>(cpus) / vcpus;
        double all = 0;
        for (const auto& t : h.tasks) {
            EXPECT_NEAR(h.share(*t) / fair, 1, 0.1) << vcpus << " vCPUs on " << cpus << " CPUs";
            all += h.share(*t);
        }
        EXPECT_NEAR(all, cpus, 0.01) << "no CPU idles while somebody waits";
    }
}

TEST(Overcommit, ACpuTakenByAPinnedVcpuIsNotForcedOnOthers) {
    Host h(2);
    Host::Task& pinned = h.add(256, 1);
    Host::Task& free_one = h.add();
    h.run(2'000 * kMs);
    EXPECT_GT(h.share(pinned), 0.98);
    EXPECT_GT(h.share(free_one), 0.98);
}

TEST(Overcommit, VcpusPinnedToOneCpuShareItByWeight) {
    Host h(2);
    Host::Task& light = h.add(256, 2);
    Host::Task& heavy = h.add(768, 2);
    h.run(10'000 * kMs);
    EXPECT_NEAR(h.share(light), 0.25, 0.02);
    EXPECT_NEAR(h.share(heavy), 0.75, 0.02);
}

TEST(WakeUp, AVcpuThatSleepsMostlyRunsAtOnceHoweverBusyTheCpu) {
    for (const unsigned hogs : {1u, 3u, 8u}) {
        Host h(1);
        for (unsigned i = 0; i < hogs; ++i) h.add();
        Host::Task& io = h.add(256, ~0ull, 2 * kTick, 20 * kMs);
        h.run(200 * kMs);
        io.worst_wait = 0;
        h.run(10'000 * kMs);
        EXPECT_LE(io.worst_wait, kMs) << hogs << " hogs";
    }
}

TEST(WakeUp, ManySleepersWaitForEachOtherAndNotForTheHogs) {
    Host h(1);
    for (unsigned i = 0; i < 3; ++i) h.add();
    std::vector<Host::Task*> io;
    for (unsigned i = 0; i < 8; ++i) io.push_back(&h.add(256, ~0ull, 2 * kTick, (15 + i) * kMs));
    h.run(200 * kMs);
    for (Host::Task* t : io) t->worst_wait = 0;
    h.run(10'000 * kMs);
    for (const Host::Task* t : io) EXPECT_LE(t->worst_wait, kSlice);
}

TEST(WakeUp, SleepingBrieflyGainsNothing) {
    Host h(1);
    Host::Task& hog = h.add();
    Host::Task& clever = h.add(256, ~0ull, kSlice - kMs, kTick);  // always gone just before its slice ends
    h.run(10'000 * kMs);
    EXPECT_NEAR(h.share(hog), 0.5, 0.06);
    EXPECT_LE(h.share(clever), 0.56);
}

TEST(WakeUp, ALongSleepIsNotSavedUp) {
    Host h(1);
    Host::Task& hog = h.add();
    Host::Task& lazy = h.add(256, ~0ull, kTick, 5'000 * kMs);
    h.run(4'000 * kMs);
    lazy.burst = 0;  // and now it computes
    h.run(2'000 * kMs);
    const std::uint64_t start = h.now, hog_before = hog.ran;
    h.run(200 * kMs);
    EXPECT_NEAR(static_cast<double>(hog.ran - hog_before) / static_cast<double>(h.now - start), 0.5, 0.1);
}

TEST(Scheduler, EveryStateIsReached) {
    Scheduler s;
    s.init({.pcpus = 1, .slice = kSlice, .granularity = kMs, .window = 100 * kMs});
    SchedNode n;
    std::set<SchedNode::State> seen{n.state};
    s.wake(n, 0);
    seen.insert(n.state);
    EXPECT_EQ(s.pick(0, 0).node, &n);
    seen.insert(n.state);
    s.remove(n);
    EXPECT_EQ(n.state, SchedNode::State::Out);
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(SchedNode::State::Running) + 1);
}

// Random life: wakes, sleeps, pinning, weights, throttles. check() looks at every step; at the end, with everybody
// awake and free to run anywhere, nobody was lost.
TEST(Scheduler, NobodyIsEverLostOrInTwoPlaces) {
    for (unsigned seed = 1; seed <= 8; ++seed) {
        std::mt19937 random(seed);
        const unsigned cpus = 1 + random() % 6;
        Host h(cpus);
        for (unsigned i = 0; i < 12; ++i) {
            const std::uint64_t burst = random() % 2 == 0 ? 0 : (1 + random() % 200) * kTick;
            h.add(1 + random() % 2000, ~0ull, burst, random() % 50 * kMs);
        }
        for (unsigned n = 0; n < 3'000; ++n) {
            Host::Task& t = *h.tasks[random() % h.tasks.size()];
            switch (random() % 6) {
                case 0: {  // what set_affinity() of the dispatcher does
                    std::uint64_t mask = random() % (1u << cpus);
                    if (mask == 0) mask = 1;
                    t.node.affinity = mask;
                    if (t.node.state == SchedNode::State::Queued) {
                        h.s.remove(t.node);
                        h.wake(t);
                    } else if (t.node.state == SchedNode::State::Running) {
                        for (unsigned p = 0; p < cpus; ++p)
                            if (h.current[p] == &t) {
                                h.s.requeue(t.node, false);
                                h.current[p] = nullptr;
                                h.again[p] = true;
                            }
                    }
                    break;
                }
                case 1: t.node.weight = 1 + random() % 65535; break;
                case 2:
                    t.node.throttle = static_cast<std::uint8_t>(random() % 100);
                    t.node.window_used = 0;
                    t.node.window = h.now;
                    break;
                default: break;
            }
            for (unsigned k = 0; k < random() % 20; ++k) h.step();
            ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed << " step " << n;
        }
        for (auto& t : h.tasks) {
            t->node.throttle = 0;
            t->node.weight = 256;
            t->burst = 0;
            t->sleeps_until = 0;
        }
        std::vector<std::uint64_t> before;
        h.run(500 * kMs);
        for (auto& t : h.tasks) before.push_back(t->ran);
        h.run(4'000 * kMs);
        for (std::size_t i = 0; i < h.tasks.size(); ++i)
            EXPECT_GT(h.tasks[i]->ran, before[i]) << "seed " << seed;
    }
}

}  // namespace
}  // namespace proa::hv
