// The decoder. A command is copied out of the shared area before anything in it is looked at; each handler checks
// its arguments, and answers with a Status and up to four results.
#include "hypervisor/domain/commands.hpp"

#include <string.h>

#include "dirtylog/shared_words.hpp"
#include "hypervisor/arch/syndrome.hpp"
#include "hypervisor/domain/checkpoint_commands.hpp"
#include "hypervisor/domain/fence.hpp"
#include "hypervisor/domain/functions.hpp"
#include "hypervisor/domain/host_commands.hpp"
#include "hypervisor/domain/machine_state.hpp"
#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

using abi::Command;
using abi::GuestPhase;
using abi::Op;
using abi::Status;

Status invalid(Command& c, std::uint64_t argument) {
    c.results[0] = argument;
    return Status::Invalid;
}

Status create(Guest& g, Command& c) {
    if (g.domain != nullptr) return Status::Busy;
    abi::CreateArgs a;
    memcpy(&a, g.area->payload, sizeof(a));
    a.name[sizeof(a.name) - 1] = 0;
    if (a.abi_version != abi::kAbiVersion) return Status::Unsupported;
    if (a.vcpus < 1 || a.vcpus > abi::kMaxVcpus) return invalid(c, 1);
    if (a.weight < 1 || a.weight > 65535) return invalid(c, 2);
    if (a.spis < 32 || a.spis > abi::kMaxSpis || a.spis % 32 != 0) return invalid(c, 3);
    const std::uint64_t most = Stage2::kIpaSize - abi::kRamBase;
    if (a.ram_bytes == 0 || a.ram_bytes % abi::kChunkSize != 0 || a.ram_bytes > most ||
        a.ram_bytes / abi::kPageSize > abi::kBitmapSize * 8)
        return invalid(c, 4);
    if (a.policy.version == 0) a.policy = host_policy();
    if (const PolicyMismatch m = check(a.policy, host_policy()); m.found) {
        c.results[0] = m.word;
        c.results[1] = m.shift;
        return Status::Unsupported;
    }
    Domain* d = Domain::create({.vcpus = a.vcpus, .spis = a.spis, .vmid = g.slot + 1, .policy = a.policy});
    if (d == nullptr) {
        c.results[0] = 8;
        return Status::NoMemory;
    }
    for (unsigned i = 0; i < a.vcpus; ++i) set_weight(d->vcpu(i), a.weight);
    g.args = a;
    g.created_ticks = CntpctEl0::read();
    g.dirty_pages = 0;
    g.log_mode = abi::DirtyLogMode::Off;
    g.throttle = 0;
    g.crash_esr = g.crash_far = g.crash_pc = 0;
    for (auto& n : g.notify_gpa) n = 0;
    for (auto& l : g.latches) l = Latch{};
    for (auto& p : g.pending) p = {};
    __atomic_store_n(&g.domain, d, __ATOMIC_RELEASE);
    g.phase = GuestPhase::Paused;
    log("guest {} ({}): {} vCPUs, {} MiB", g.slot, g.args.name, a.vcpus, a.ram_bytes >> 20);
    return Status::Ok;
}

Status destroy(Guest& g, Command&) {
    return destroy_guest(g) ? Status::Ok : Status::Again;
}

Status map_ram(Guest& g, Command& c) {
    const std::uint64_t gpa = c.args[0], chunks = c.args[1];
    // A chunk that comes while the log is armed would be writable and unwatched.
    if (g.phase == GuestPhase::Running || g.log_mode != abi::DirtyLogMode::Off) return Status::Busy;
    if (gpa < abi::kRamBase || gpa - abi::kRamBase >= g.args.ram_bytes || gpa % abi::kChunkSize != 0)
        return invalid(c, 0);
    if (chunks == 0 || chunks > abi::kMaxMapChunks ||
        chunks > (g.args.ram_bytes - (gpa - abi::kRamBase)) / abi::kChunkSize)
        return invalid(c, 1);
    // Without the access flag: accessed() tells what the guest has never used.
    constexpr std::uint64_t rw = s2::NormalWb | pte::SH_INNER | s2::R | s2::W | s2::Writable;
    Guard guard(g.domain->mm_lock);
    for (std::uint64_t i = 0; i < chunks; ++i) {
        const std::uint64_t pa = g.area->map_list[i];
        c.results[0] = i;
        if (!Pa(pa).aligned(kChunk) || !is_control_ram(Pa(pa), kChunk)) return Status::Denied;
        switch (g.domain->stage2().map(Ipa(gpa + i * kChunk), Pa(pa), kChunk, rw)) {
            case MapStatus::Ok: break;
            case MapStatus::NoMemory: return Status::NoMemory;
            case MapStatus::Overlap:
            case MapStatus::OutOfRange: return Status::Busy;
        }
    }
    c.results[0] = chunks;
    return Status::Ok;
}

Status define_notify(Guest& g, Command& c) {
    if (c.args[0] < abi::kVirtioBase || c.args[0] >= abi::kVirtioBase + abi::kVirtioSlots * abi::kVirtioStride)
        return invalid(c, 0);
    if (c.args[1] >= abi::kVirtioSlots) return invalid(c, 1);
    g.notify_gpa[c.args[1]] = c.args[0];
    return Status::Ok;
}

Status define_latch(Guest& g, Command& c) {
    if (c.args[0] >= abi::kVirtioSlots) return invalid(c, 0);
    if (c.args[1] < abi::kVirtioBase || c.args[1] >= abi::kVirtioBase + abi::kVirtioSlots * abi::kVirtioStride)
        return invalid(c, 1);
    if (c.args[2] < 32 || c.args[2] >= 32 + g.args.spis) return invalid(c, 2);
    Guard guard(g.fast_lock);
    g.latches[c.args[0]] = {c.args[1], static_cast<std::uint32_t>(c.args[2]), 0};
    return Status::Ok;
}

Status run(Guest& g, Command& c) {
    if (g.phase == GuestPhase::Running) return Status::Ok;
    if (!g.domain->all_quiet()) return Status::Again;
    // A guest that a fence stopped, and nobody paused since: its counter stops only now.
    if (g.phase != GuestPhase::Paused) g.domain->stop_clock();
    g.phase = GuestPhase::Paused;
    if (c.args[0] != 1) g.domain->start_clock();
    refresh_latch_lines(g);
    return run_unless_fenced(g) ? Status::Ok : Status::Fenced;
}

Status pause(Guest& g, Command&) {
    if (g.phase == GuestPhase::Running) {
        g.domain->pause_all();
        g.phase = GuestPhase::Pausing;
    }
    // They are an SGI away: a few looks here save the caller as many traps, and the guest that much of its pause. On an
    // emulated host the hint lets the other CPUs go on.
    constexpr unsigned kLooks = 16;
    for (unsigned looks = 0; !g.domain->all_quiet(); spin_hint())
        if (++looks == kLooks) return Status::Again;
    if (g.phase != GuestPhase::Paused) g.domain->stop_clock();
    g.phase = GuestPhase::Paused;
    return Status::Ok;
}

Status reset(Guest& g, Command&) {
    if (g.phase == GuestPhase::Running || !g.domain->all_quiet()) return Status::Busy;
    g.reset_machine();
    g.domain->stopped_counter = 0;
    g.phase = GuestPhase::Paused;
    return Status::Ok;
}

Status set_affinity_command(Guest& g, Command& c) {
    const std::uint64_t all = pcpu_count() >= 64 ? ~0ull : bit(pcpu_count()) - 1;
    if (c.args[0] >= g.args.vcpus) return invalid(c, 0);
    if ((c.args[1] & all) == 0) return invalid(c, 1);
    set_affinity(g.domain->vcpu(static_cast<unsigned>(c.args[0])), c.args[1] & all);
    return Status::Ok;
}

Status set_weight_command(Guest& g, Command& c) {
    if (c.args[0] < 1 || c.args[0] > 65535) return invalid(c, 0);
    g.args.weight = static_cast<std::uint32_t>(c.args[0]);
    for (unsigned i = 0; i < g.args.vcpus; ++i) set_weight(g.domain->vcpu(i), g.args.weight);
    return Status::Ok;
}

Status set_throttle_command(Guest& g, Command& c) {
    if (c.args[0] > 99) return invalid(c, 0);
    g.throttle = static_cast<std::uint32_t>(c.args[0]);
    for (unsigned i = 0; i < g.args.vcpus; ++i) set_throttle(g.domain->vcpu(i), g.throttle);
    return Status::Ok;
}

Status dirty_log(Guest& g, Command& c) {
    if (c.args[0] > static_cast<std::uint64_t>(abi::DirtyLogMode::Hardware)) return invalid(c, 0);
    const auto mode = static_cast<abi::DirtyLogMode>(c.args[0]);
    if (mode == abi::DirtyLogMode::Hardware && !host_has_hardware_dirty()) return Status::Unsupported;
    Guard guard(g.domain->mm_lock);
    Stage2& s = g.domain->stage2();
    if (g.log_mode != abi::DirtyLogMode::Off && mode != g.log_mode) {
        s.disarm(Ipa(abi::kRamBase), g.args.ram_bytes);
        end_checkpoint(*g.domain);
    }
    if (mode != abi::DirtyLogMode::Off && mode != g.log_mode &&
        !s.arm(Ipa(abi::kRamBase), g.args.ram_bytes, mode == abi::DirtyLogMode::Hardware)) {
        s.disarm(Ipa(abi::kRamBase), g.args.ram_bytes);
        g.log_mode = abi::DirtyLogMode::Off;
        return Status::NoMemory;
    }
    g.log_mode = mode;
    return Status::Ok;
}

Status harvest(Guest& g, Command& c) {
    const std::uint64_t first = c.args[0], pages = c.args[1];
    if (const Status s = check_page_range(g, c); s != Status::Ok) return s;
    if (g.log_mode == abi::DirtyLogMode::Off) return Status::Busy;
    const dirtylog::SharedWords bitmap(g.area->bitmap + first / 64);
    Guard guard(g.domain->mm_lock);
    c.results[0] =
        g.domain->stage2().harvest(Ipa(abi::kRamBase + first * abi::kPageSize), pages * abi::kPageSize,
                                   g.log_mode == abi::DirtyLogMode::Hardware,
                                   [&](std::uint64_t w, std::uint64_t bits) { bitmap.publish(w, bits); });
    g.dirty_pages += c.results[0];
    return Status::Ok;
}

Status accessed(Guest& g, Command& c) {
    const std::uint64_t first = c.args[0], pages = c.args[1];
    if (const Status s = check_page_range(g, c); s != Status::Ok) return s;
    const dirtylog::SharedWords bitmap(g.area->bitmap + first / 64);
    Guard guard(g.domain->mm_lock);
    c.results[0] =
        g.domain->stage2().accessed(Ipa(abi::kRamBase + first * abi::kPageSize), pages * abi::kPageSize,
                                    [&](std::uint64_t w, std::uint64_t bits) { bitmap.publish(w, bits); });
    return Status::Ok;
}

Status stats(Guest& g, Command&) {
    abi::GuestStats s;
    fill_stats(g, s);
    memcpy(g.area->payload, &s, sizeof(s));
    return Status::Ok;
}

Status get_policy(Guest& g, Command&) {
    memcpy(g.area->payload, &g.args.policy, sizeof(g.args.policy));
    return Status::Ok;
}

using Handler = Status (*)(Guest&, Command&);
struct Row {
    Op op;
    Handler handler;
    bool needs_guest;
};
constexpr Row kGuestOps[] = {
    {Op::Create, create, false},
    {Op::Destroy, destroy, true},
    {Op::MapRam, map_ram, true},
    {Op::DefineNotify, define_notify, true},
    {Op::DefineLatch, define_latch, true},
    {Op::Run, run, true},
    {Op::Pause, pause, true},
    {Op::Reset, reset, true},
    {Op::GetVcpu, get_vcpu, true},
    {Op::SetVcpu, set_vcpu, true},
    {Op::GetGic, get_gic, true},
    {Op::SetGic, set_gic, true},
    {Op::GetTime, get_time, true},
    {Op::SetTime, set_time, true},
    {Op::GetLatches, get_latches, true},
    {Op::SetLatches, set_latches, true},
    {Op::SetAffinity, set_affinity_command, true},
    {Op::SetWeight, set_weight_command, true},
    {Op::SetThrottle, set_throttle_command, true},
    {Op::DirtyLog, dirty_log, true},
    {Op::Harvest, harvest, true},
    {Op::GuestStats, stats, true},
    {Op::GetPolicy, get_policy, true},
    {Op::SetCopyPool, set_copy_pool, true},
    {Op::Hold, hold, true},
    {Op::Release, release, true},
    {Op::Accessed, accessed, true},
};

Status dispatch(Guest& g, Command& c) {
    if (g.slot == 0) return host_command(g, c);
    for (const Row& r : kGuestOps)
        if (r.op == c.op) return r.needs_guest && g.domain == nullptr ? Status::NotFound : r.handler(g, c);
    return Status::Unsupported;
}

}  // namespace

void run_command(Guest& g) {
    Guard guard(g.lock);
    if (g.area == nullptr) return;
    Command c;
    memcpy(&c, &g.area->command, sizeof(c));
    for (auto& r : c.results) r = 0;
    Status status = dispatch(g, c);
    memcpy(g.area->command.results, c.results, sizeof(c.results));
    __atomic_store(&g.area->command.status, &status, __ATOMIC_RELEASE);
}

void resume_exit(Guest& g, std::uint64_t index) {
    Guard guard(g.lock);
    if (g.domain == nullptr || g.area == nullptr || index >= g.args.vcpus) return;
    Vcpu& v = g.domain->vcpu(static_cast<unsigned>(index));
    if ((v.reasons & Vcpu::Exit) == 0) return;
    while (!is_quiet(v)) spin_hint();  // it is between its trap and memory on another pCPU
    const PendingMmio p = g.pending[index];
    if (!p.write) v.set_reg(p.reg, loaded(g.area->exits[index].value, p.size, p.sign_extend, p.wide));
    g.area->exits[index].kind = abi::VcpuExit::None;
    v.advance_pc();
    unblock(v, Vcpu::Exit);
}

bool destroy_guest(Guest& g) {
    Domain* d = g.domain;
    if (d == nullptr) return true;
    d->pause_all();
    g.phase = GuestPhase::Pausing;
    if (!d->all_quiet()) return false;
    log("guest {} ({}): destroyed", g.slot, g.args.name);
    forget_guest(g);
    g.phase = GuestPhase::None;
    Domain::destroy(d);
    return true;
}

bool abandon_guest(Guest& g) {
    if (!destroy_guest(g)) return false;
    g.area = nullptr;  // its memory is about to belong to somebody else
    return true;
}

}  // namespace proa::hv
