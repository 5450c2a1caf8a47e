#include "hypervisor/domain/fence.hpp"

#include "hypervisor/domain/fences.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/sched/deadline.hpp"

namespace proa::hv {
namespace {

Spinlock
    lock;  // `fences`, and that a guest is stopped by one or let run, not both; see lib/spinlock.hpp for its order
constinit Fences fences;

// A guest that stands already (a command paused it, or it ended) is left as it is: its next Run finds the fence.
void stop(Guest& g) {
    auto running = abi::GuestPhase::Running, stopped = abi::GuestPhase::Stopped;
    if (g.domain == nullptr ||
        !__atomic_compare_exchange(&g.phase, &running, &stopped, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    g.domain->pause_all();
    post_lifecycle(g, abi::life::Fenced);
    log("guest {}: fenced", g.slot);
}

void fence_reached(std::uint64_t now) {
    Guard guard(lock);
    while (const unsigned slot = fences.take_due(now)) stop(guest_in(slot));
    // Last: who looks in between waits for the lock and finds the vCPUs blocked.
    set_deadline(fences.earliest());
}

void set(Guest& g, std::uint64_t at) {
    fences.set(g.slot, at);
    set_deadline(fences.earliest());
}

}  // namespace

void fences_init() {
    on_deadline(fence_reached);
}

void set_fence(Guest& g, std::uint64_t at) {
    Guard guard(lock);
    if (g.domain != nullptr) set(g, at);
}

bool run_unless_fenced(Guest& g) {
    Guard guard(lock);
    if (fences.passed(g.slot, CntpctEl0::read())) {
        post_lifecycle(g, abi::life::Fenced);
        return false;
    }
    g.phase = abi::GuestPhase::Running;
    g.domain->resume_all();
    return true;
}

void forget_guest(Guest& g) {
    Guard guard(lock);
    set(g, 0);
    __atomic_store_n(&g.domain, static_cast<Domain*>(nullptr), __ATOMIC_RELEASE);
}

}  // namespace proa::hv
