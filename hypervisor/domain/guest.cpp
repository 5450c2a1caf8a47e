#include "hypervisor/domain/guest.hpp"

#include "hypervisor/domain/functions.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

Guest guests[abi::kGuestSlots + 1];

void raise(Guest& g, std::uint64_t* word, std::uint64_t bits) {
    __atomic_fetch_or(word, bits, __ATOMIC_RELEASE);
    signal_function(g, true);
}

}  // namespace

Guest& guest_in(unsigned slot) {
    return guests[slot];
}

Guest* guest_of(const Domain& d) {
    for (unsigned s = 1; s <= abi::kGuestSlots; ++s)
        if (guests[s].domain == &d) return &guests[s];
    return nullptr;
}

void post_exit(Guest& g, unsigned vcpu) {
    if (g.area != nullptr) raise(g, &g.area->events.exits, 1ull << vcpu);
}
void post_notify(Guest& g, unsigned device, std::uint64_t bits) {
    if (g.area != nullptr) raise(g, &g.area->events.notify[device], bits);
}
void post_lifecycle(Guest& g, std::uint64_t bits) {
    if (g.area != nullptr) raise(g, &g.area->events.lifecycle, bits);
}

bool fast_access(Guest& g, Ipa at, unsigned size, bool write, std::uint64_t& value) {
    if (at.v < abi::kVirtioBase || at.v >= abi::kVirtioBase + abi::kVirtioSlots * abi::kVirtioStride ||
        size != 4)
        return false;
    if (write)
        for (unsigned d = 0; d < abi::kVirtioSlots; ++d)
            if (g.notify_gpa[d] == at.v) {
                post_notify(g, d, 1ull << (value & 63));
                return true;
            }
    for (Latch& l : g.latches) {
        if (l.gpa == 0 || (write ? at.v != l.gpa + 4 : at.v != l.gpa)) continue;
        Guard guard(g.fast_lock);
        if (!write) {
            value = l.status;
            return true;
        }
        l.status &= ~static_cast<std::uint32_t>(value);
        if (l.status == 0) g.domain->set_irq(l.intid, false);
        return true;
    }
    return false;
}

void set_latch(Guest& g, unsigned latch, std::uint32_t bits) {
    Latch& l = g.latches[latch];
    if (l.gpa == 0 || g.domain == nullptr) return;
    Guard guard(g.fast_lock);
    l.status |= bits;
    if (l.status != 0) g.domain->set_irq(l.intid, true);
}

void refresh_latch_lines(Guest& g) {
    Guard guard(g.fast_lock);
    for (const Latch& l : g.latches)
        if (l.gpa != 0) g.domain->set_irq(l.intid, l.status != 0);
}

void guest_stop(Guest& g, std::uint64_t lifecycle) {
    g.domain->pause_all();
    auto phase = abi::GuestPhase::Stopped;
    __atomic_store(&g.phase, &phase, __ATOMIC_RELEASE);
    post_lifecycle(g, lifecycle);
}

void Guest::reset_machine() {
    domain->gic().lock.lock();
    domain->gic().vgic.reset();
    domain->gic().lock.unlock();
    for (unsigned i = 0; i < domain->vcpu_count(); ++i) {
        Vcpu& v = domain->vcpu(i);
        v.reset(0, 0);
        block(v, Vcpu::Off);
        unblock(v, Vcpu::Wfi);
        unblock(v, Vcpu::Exit);
        unblock(v, Vcpu::CopyWait);
        pending[i] = {};
    }
    Guard guard(fast_lock);
    for (Latch& l : latches) l.status = 0;
}

}  // namespace proa::hv
