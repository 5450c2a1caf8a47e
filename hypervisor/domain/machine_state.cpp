#include "hypervisor/domain/machine_state.hpp"

#include <string.h>

#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

using abi::Command;
using abi::Status;

bool quiet(Guest& g) {
    return g.phase == abi::GuestPhase::Paused && g.domain->all_quiet();
}

template <class T>
void put(Guest& g, const T& t) {
    static_assert(sizeof(T) <= abi::kPayloadSize);
    memcpy(g.area->payload, &t, sizeof(t));
}
template <class T>
T take(const Guest& g) {
    T t;
    memcpy(&t, g.area->payload, sizeof(t));
    return t;
}

}  // namespace

Status get_vcpu(Guest& g, Command& c) {
    if (c.args[0] >= g.args.vcpus) return Status::Invalid;
    if (!quiet(g)) return Status::Busy;
    abi::VcpuState s;
    g.domain->vcpu(static_cast<unsigned>(c.args[0])).export_to(s);
    put(g, s);
    return Status::Ok;
}

Status set_vcpu(Guest& g, Command& c) {
    if (c.args[0] >= g.args.vcpus) return Status::Invalid;
    if (!quiet(g)) return Status::Busy;
    const auto s = take<abi::VcpuState>(g);
    Vcpu& v = g.domain->vcpu(static_cast<unsigned>(c.args[0]));
    if (!v.import_from(s)) return Status::Invalid;
    unblock(v, Vcpu::Wfi);  // it looks for itself whether there is anything to do
    unblock(v, Vcpu::Exit);
    unblock(v, Vcpu::CopyWait);
    if (s.power == abi::PowerState::On)
        unblock(v, Vcpu::Off);
    else
        block(v, Vcpu::Off);
    return Status::Ok;
}

Status get_gic(Guest& g, Command&) {
    if (!quiet(g)) return Status::Busy;
    abi::GicState s;
    Guard guard(g.domain->gic().lock);
    g.domain->gic().vgic.save(s);
    put(g, s);
    return Status::Ok;
}

Status set_gic(Guest& g, Command&) {
    if (!quiet(g)) return Status::Busy;
    const auto s = take<abi::GicState>(g);
    Guard guard(g.domain->gic().lock);
    return g.domain->gic().vgic.load(s) ? Status::Ok : Status::Invalid;
}

Status get_time(Guest& g, Command&) {
    if (!quiet(g)) return Status::Busy;
    abi::TimeState s{};
    s.version = abi::kStateVersion;
    s.virtual_counter = g.domain->stopped_counter;
    s.cntfrq = CntfrqEl0::read();
    put(g, s);
    return Status::Ok;
}

Status set_time(Guest& g, Command&) {
    if (!quiet(g)) return Status::Busy;
    const auto s = take<abi::TimeState>(g);
    if (s.version != abi::kStateVersion || s.cntfrq != CntfrqEl0::read()) return Status::Unsupported;
    g.domain->stopped_counter = s.virtual_counter;
    return Status::Ok;
}

Status get_latches(Guest& g, Command&) {
    abi::LatchState s{};
    s.version = abi::kStateVersion;
    s.count = abi::kVirtioSlots;
    Guard guard(g.fast_lock);
    for (unsigned i = 0; i < abi::kVirtioSlots; ++i) s.status[i] = g.latches[i].status;
    put(g, s);
    return Status::Ok;
}

Status set_latches(Guest& g, Command&) {
    const auto s = take<abi::LatchState>(g);
    if (s.version != abi::kStateVersion || s.count != abi::kVirtioSlots) return Status::Invalid;
    Guard guard(g.fast_lock);
    for (unsigned i = 0; i < abi::kVirtioSlots; ++i) g.latches[i].status = s.status[i];
    return Status::Ok;
}

}  // namespace proa::hv
