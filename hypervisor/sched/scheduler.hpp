// Who runs next on which pCPU: credit-style proportional share. Each node owns virtual time that advances at
// kDefaultWeight / weight of real time; the one furthest behind runs. A node that slept comes back at most
// one slice behind the queue's virtual time, so I/O gets the CPU at once but can't hoard. Pure: time comes in as
// counter ticks, decisions go out; the dispatcher holds its lock around every call.
#pragma once
#include <cstdint>

#include "hypervisor/vcpu/sched_node.hpp"

namespace proa::hv {

inline constexpr unsigned kSchedPcpus = 16;

struct SchedConfig {
    unsigned pcpus = 1;
    std::uint64_t slice = 0;        // ticks; 10 ms
    std::uint64_t granularity = 0;  // a woken node preempts if it is this far behind; 1 ms
    std::uint64_t window = 0;       // throttle window; 100 ms
};

class Scheduler {
  public:
    void init(const SchedConfig& config) { config_ = config; }

    struct Placement {
        unsigned pcpu;
        bool preempt;  // that pCPU should pick again now
    };
    // The node (Out) became runnable.
    Placement wake(SchedNode& n, std::uint64_t now);
    // The node no longer is, wherever it was.
    void remove(SchedNode& n);
    // The running node goes back into the queue of its pCPU, or of another if its affinity changed or it is somebody
    // else's turn here (`slice_over`).
    void requeue(SchedNode& n, bool slice_over);
    // `n` ran for `ticks`.
    void account(SchedNode& n, std::uint64_t ticks, std::uint64_t now);

    struct Choice {
        SchedNode* node;      // null: idle
        std::uint64_t until;  // pick again then, at the latest; ~0: no need
    };
    Choice pick(unsigned pcpu, std::uint64_t now);

    SchedNode* running(unsigned pcpu) const { return queue_[pcpu].running; }
    bool anyone_waits(unsigned pcpu) const { return queue_[pcpu].head != nullptr; }

  private:
    struct Queue {
        SchedNode* head = nullptr;
        SchedNode* running = nullptr;
        std::uint64_t vtime = 0;  // never goes back
    };
    static bool allowed(const SchedNode& n, unsigned pcpu) { return (n.affinity >> pcpu & 1) != 0; }
    bool throttled(SchedNode& n, std::uint64_t now) const;
    void enter(SchedNode& n, unsigned pcpu);
    void insert(Queue& q, SchedNode& n);
    void take(Queue& q, SchedNode& n);
    std::uint64_t load(unsigned pcpu) const;
    unsigned place(const SchedNode& n) const;
    unsigned rotate(const SchedNode& n) const;
    SchedNode* steal(unsigned pcpu, std::uint64_t now);

    SchedConfig config_;
    Queue queue_[kSchedPcpus];
};

}  // namespace proa::hv
