#include "hypervisor/sched/deadline.hpp"

#include "hypervisor/arch/gic.hpp"
#include "hypervisor/arch/pcpu.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

std::uint64_t moment = ~0ull;
void (*handle)(std::uint64_t now);

}  // namespace

void on_deadline(void (*handler)(std::uint64_t now)) {
    handle = handler;
}

std::uint64_t deadline() {
    return __atomic_load_n(&moment, __ATOMIC_ACQUIRE);
}

// Later: a timer that comes too early only looks. Earlier: the others must program theirs anew. One that is on its way into a
// guest takes the SGI as its first interrupt there, one that is about to sleep doesn't.
void set_deadline(std::uint64_t at) {
    const bool earlier = at < moment;
    __atomic_store_n(&moment, at, __ATOMIC_RELEASE);
    for (unsigned i = 0; earlier && i < pcpu_count(); ++i)
        if (Pcpu& p = pcpu(i); &p != &Pcpu::self()) PhysGic::send_sgi(kSgiKick, p.mpidr);
}

void reach_deadline(std::uint64_t now) {
    handle(now);
}

}  // namespace proa::hv
