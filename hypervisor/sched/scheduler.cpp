#include "hypervisor/sched/scheduler.hpp"

namespace proa::hv {

bool Scheduler::throttled(SchedNode& n, std::uint64_t now) const {
    if (n.throttle == 0 || config_.window == 0) return false;
    if (now - n.window >= config_.window) {
        n.window = now - (now - n.window) % config_.window;
        n.window_used = 0;
    }
    return n.window_used >= config_.window * (100 - n.throttle) / 100;
}

void Scheduler::insert(Queue& q, SchedNode& n) {
    SchedNode** at = &q.head;
    while (*at != nullptr && (*at)->vtime <= n.vtime) at = &(*at)->next;
    n.next = *at;
    *at = &n;
    n.state = SchedNode::State::Queued;
}

void Scheduler::take(Queue& q, SchedNode& n) {
    for (SchedNode** at = &q.head; *at != nullptr; at = &(*at)->next)
        if (*at == &n) {
            *at = n.next;
            n.next = nullptr;
            return;
        }
}

// Weight that runs or waits on a pCPU.
std::uint64_t Scheduler::load(unsigned pcpu) const {
    const Queue& q = queue_[pcpu];
    std::uint64_t sum = q.running != nullptr ? q.running->weight : 0;
    for (const SchedNode* n = q.head; n != nullptr; n = n->next) sum += n->weight;
    return sum;
}

// The last pCPU if no other is better; else the one with the least load.
unsigned Scheduler::place(const SchedNode& n) const {
    unsigned best = kSchedPcpus;
    if (n.pcpu < config_.pcpus && allowed(n, n.pcpu)) best = n.pcpu;
    for (unsigned p = 0; p < config_.pcpus; ++p) {
        if (!allowed(n, p)) continue;
        if (best == kSchedPcpus || load(p) < load(best)) best = p;
    }
    return best == kSchedPcpus ? 0 : best;
}

// A node whose slice is over and for which others wait goes where less waits, or as much for vCPUs that have had more.
// So the odd one of three on two pCPUs goes round, instead of two sharing one pCPU for good.
unsigned Scheduler::rotate(const SchedNode& n) const {
    unsigned best = n.pcpu;
    std::uint64_t least = load(n.pcpu);
    if (least == 0) return best;
    for (unsigned p = 0; p < config_.pcpus; ++p) {
        if (p == n.pcpu || !allowed(n, p)) continue;
        const std::uint64_t there = load(p);
        if (there < least || (there == least && queue_[p].vtime > queue_[best].vtime)) {
            best = p;
            least = there;
        }
    }
    return best;
}

// Virtual times of all pCPUs are one scale, so what a node has had goes with it; but pCPUs drift apart (pinning), and
// sleepers fall behind. At most one slice behind the queue: what it gets for having slept. At most two ahead.
void Scheduler::enter(SchedNode& n, unsigned pcpu) {
    const std::uint64_t at = queue_[pcpu].vtime, floor = at > config_.slice ? at - config_.slice : 0,
                        ceiling = at + 2 * config_.slice;
    if (n.vtime < floor) n.vtime = floor;
    if (n.pcpu != pcpu && n.vtime > ceiling) n.vtime = ceiling;
    n.pcpu = static_cast<std::uint16_t>(pcpu);
}

Scheduler::Placement Scheduler::wake(SchedNode& n, std::uint64_t now) {
    const unsigned p = place(n);
    Queue& q = queue_[p];
    enter(n, p);
    insert(q, n);
    if (throttled(n, now)) return {p, false};
    if (q.running == nullptr) return {p, true};
    return {p, n.vtime + config_.granularity < q.running->vtime};
}

void Scheduler::remove(SchedNode& n) {
    Queue& q = queue_[n.pcpu];
    if (n.state == SchedNode::State::Queued) take(q, n);
    if (q.running == &n) q.running = nullptr;
    n.state = SchedNode::State::Out;
}

void Scheduler::requeue(SchedNode& n, bool slice_over) {
    Queue& old = queue_[n.pcpu];
    if (old.running == &n) old.running = nullptr;
    unsigned p = n.pcpu;
    if (!allowed(n, p))
        p = place(n);
    else if (slice_over)
        p = rotate(n);
    if (p != n.pcpu) {
        enter(n, p);
    }
    insert(queue_[p], n);
}

void Scheduler::account(SchedNode& n, std::uint64_t ticks, std::uint64_t now) {
    n.vtime += ticks * kDefaultWeight / (n.weight == 0 ? 1 : n.weight);
    if (n.throttle != 0) {
        (void)throttled(n, now);  // moves the window on
        n.window_used += ticks;
    }
    Queue& q = queue_[n.pcpu];
    const std::uint64_t least = q.head != nullptr && q.head->vtime < n.vtime ? q.head->vtime : n.vtime;
    if (least > q.vtime) q.vtime = least;
}

SchedNode* Scheduler::steal(unsigned pcpu, std::uint64_t now) {
    for (unsigned p = 0; p < config_.pcpus; ++p) {
        if (p == pcpu || queue_[p].running == nullptr)
            continue;  // a queue whose pCPU is about to pick needs no help
        for (SchedNode* n = queue_[p].head; n != nullptr; n = n->next) {
            if (!allowed(*n, pcpu) || throttled(*n, now)) continue;
            take(queue_[p], *n);
            enter(*n, pcpu);
            return n;
        }
    }
    return nullptr;
}

Scheduler::Choice Scheduler::pick(unsigned pcpu, std::uint64_t now) {
    Queue& q = queue_[pcpu];
    std::uint64_t until = ~0ull;
    SchedNode* chosen = nullptr;
    for (SchedNode* n = q.head; n != nullptr; n = n->next) {
        if (throttled(*n, now)) {
            const std::uint64_t again = n->window + config_.window;
            if (again < until) until = again;
            continue;
        }
        if (chosen == nullptr) chosen = n;
    }
    if (chosen != nullptr)
        take(q, *chosen);
    else
        chosen = steal(pcpu, now);
    q.running = chosen;
    if (chosen == nullptr) return {nullptr, until};
    chosen->state = SchedNode::State::Running;
    if (q.head != nullptr && now + config_.slice < until) until = now + config_.slice;
    if (chosen->throttle != 0) {
        const std::uint64_t budget = config_.window * (100 - chosen->throttle) / 100;
        const std::uint64_t left = budget > chosen->window_used ? budget - chosen->window_used : 0;
        if (now + left < until) until = now + left;
    }
    return {chosen, until};
}

}  // namespace proa::hv
