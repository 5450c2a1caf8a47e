#include "hypervisor/domain/host_commands.hpp"

#include <string.h>

#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

using abi::Command;
using abi::Status;

std::uint64_t image_bytes, boot_ticks;

Status host_info(Guest& g, Command&) {
    abi::HostInfo i{};
    i.abi_version = abi::kAbiVersion;
    i.pcpus = pcpu_count();
    i.cntfrq = CntfrqEl0::read();
    i.counter = CntpctEl0::read();
    i.boot_ticks = boot_ticks;
    i.pool_pages = pool().total();
    i.free_pages = pool().available();
    i.image_bytes = image_bytes;
    i.hardware_dirty = host_has_hardware_dirty() ? 1 : 0;
    i.list_registers = static_cast<std::uint32_t>(field(IchVtrEl2::read(), 0, 5)) + 1;
    i.ipa_bits = Stage2::kIpaBits;
    for (unsigned s = 1; s <= abi::kGuestSlots; ++s) i.guests += guest_in(s).domain != nullptr ? 1 : 0;
    i.policy = host_policy();
    const char version[] = PROA_VERSION;
    memcpy(i.version, version, sizeof(version));
    memcpy(g.area->payload, &i, sizeof(i));
    return Status::Ok;
}

Status read_log(Guest& g, Command& c) {
    std::uint64_t sequence = c.args[0];
    c.results[0] = log_read(sequence, g.area->payload, abi::kPayloadSize);
    c.results[1] = sequence;
    return Status::Ok;
}

Status cpu_stats(Guest& g, Command& c) {
    auto* out = reinterpret_cast<abi::PcpuStats*>(g.area->payload);
    for (unsigned i = 0; i < pcpu_count(); ++i) {
        const Pcpu& p = pcpu(i);
        const abi::PcpuStats s{p.busy_ticks, p.idle_ticks, p.switches, p.exits, p.ipis, p.interrupts, {}};
        memcpy(&out[i], &s, sizeof(s));
    }
    c.results[0] = pcpu_count();
    return Status::Ok;
}

Status list_guests(Guest& g, Command&) {
    auto* out = reinterpret_cast<abi::GuestStats*>(g.area->payload);
    for (unsigned s = 1; s <= abi::kGuestSlots; ++s) {
        abi::GuestStats stats{};
        Guest& other = guest_in(s);
        Guard guard(other.lock);
        if (other.domain != nullptr) fill_stats(other, stats);
        memcpy(&out[s - 1], &stats, sizeof(stats));
    }
    return Status::Ok;
}

Status check_policy(Guest& g, Command& c) {
    abi::CpuPolicy p;
    memcpy(&p, g.area->payload, sizeof(p));
    const PolicyMismatch m = check(p, host_policy());
    c.results[0] = m.word;
    c.results[1] = m.shift;
    c.results[2] = m.whole ? 1 : 0;
    return m.found ? Status::Unsupported : Status::Ok;
}

}  // namespace

Status host_command(Guest& host, Command& c) {
    switch (c.op) {
        case abi::Op::HostInfo: return host_info(host, c);
        case abi::Op::ReadLog: return read_log(host, c);
        case abi::Op::CpuStats: return cpu_stats(host, c);
        case abi::Op::ListGuests: return list_guests(host, c);
        case abi::Op::CheckPolicy: return check_policy(host, c);
        default: return Status::Unsupported;
    }
}

void fill_stats(const Guest& g, abi::GuestStats& s) {
    s = {};
    s.phase = g.phase;
    s.vcpus = g.args.vcpus;
    memcpy(s.name, g.args.name, sizeof(s.name));
    s.ram_bytes = g.args.ram_bytes;
    s.created_ticks = g.created_ticks;
    s.table_pages = g.domain->stage2().table_pages();
    s.dirty_pages = g.dirty_pages;
    s.dirty_log_mode = static_cast<std::uint64_t>(g.log_mode);
    s.crash_esr = g.crash_esr;
    s.crash_far = g.crash_far;
    s.crash_pc = g.crash_pc;
    s.weight = g.args.weight;
    s.throttle = g.throttle;
    s.copied_pages = g.domain->copied_pages;
    s.copy_waits = g.domain->copy_waits;
    for (unsigned i = 0; i < g.args.vcpus; ++i) {
        const Vcpu& v = g.domain->vcpu(i);
        for (unsigned e = 0; e < static_cast<unsigned>(abi::ExitKind::Count); ++e) s.exits[e] += v.exits[e];
        s.vcpu[i] = {v.run_ticks,    (v.reasons & Vcpu::Off) != 0 ? 0u : 1u, run_state(v), v.node.pcpu, 0,
                     v.node.affinity};
    }
}

void set_image_bytes(std::uint64_t bytes, std::uint64_t ticks) {
    image_bytes = bytes;
    boot_ticks = ticks;
}

}  // namespace proa::hv
