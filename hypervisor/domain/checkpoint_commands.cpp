#include "hypervisor/domain/checkpoint_commands.hpp"

#include "dirtylog/shared_words.hpp"
#include "hypervisor/domain/functions.hpp"

namespace proa::hv {

using abi::Command;
using abi::Status;

Status check_page_range(const Guest& g, Command& c) {
    const std::uint64_t first = c.args[0], pages = c.args[1], all = g.args.ram_bytes / abi::kPageSize;
    constexpr std::uint64_t kStep = kChunk / abi::kPageSize;
    if (first >= all || first % kStep != 0) return c.results[0] = 0, Status::Invalid;
    if (pages == 0 || pages > all - first || pages % kStep != 0) return c.results[0] = 1, Status::Invalid;
    return Status::Ok;
}

void end_checkpoint(Domain& d) {
    d.holding = false;
    d.copies.clear();
    d.wake_copy_waiters();
}

// User space keeps this memory alive until it is taken back here or the guest is destroyed: the vCPUs' writes land in it.
Status set_copy_pool(Guest& g, Command& c) {
    const std::uint64_t count = c.args[0];
    if (count > abi::kMaxCopyChunks) return c.results[0] = 0, Status::Invalid;
    abi::CopyChunk* chunks[abi::kMaxCopyChunks];
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t pa = g.area->map_list[i];
        c.results[0] = i;
        if (!Pa(pa).aligned(kChunk) || !is_control_ram(Pa(pa), kChunk)) return Status::Denied;
        chunks[i] = reinterpret_cast<abi::CopyChunk*>(pa);
    }
    Guard guard(g.domain->mm_lock);
    if (g.domain->holding) return Status::Busy;
    g.domain->copies.give(chunks, count);
    return Status::Ok;
}

Status hold(Guest& g, Command& c) {
    if (const Status s = check_page_range(g, c); s != Status::Ok) return s;
    if (g.phase != abi::GuestPhase::Paused || !g.domain->all_quiet()) return Status::Busy;
    const std::uint64_t first = c.args[0], pages = c.args[1];
    const dirtylog::SharedWords bitmap(g.area->bitmap + first / 64);
    Guard guard(g.domain->mm_lock);
    if (g.log_mode == abi::DirtyLogMode::Off || g.domain->copies.chunks() == 0) return Status::Busy;
    c.results[0] = g.domain->stage2().hold(
        Ipa(abi::kRamBase + first * abi::kPageSize), pages * abi::kPageSize,
        [&](std::uint64_t w) { return bitmap.peek(w); },
        [&](std::uint64_t w, std::uint64_t bits) { bitmap.publish(w, bits); });
    if (c.results[0] != 0) g.domain->holding = true;
    g.dirty_pages += c.results[0];
    return Status::Ok;
}

Status release(Guest& g, Command& c) {
    const bool all = c.args[1] == 0;
    if (!all)
        if (const Status s = check_page_range(g, c); s != Status::Ok) return s;
    Guard guard(g.domain->mm_lock);
    if (!g.domain->holding) return Status::Ok;
    if (all) {
        g.domain->stage2().release(Ipa(abi::kRamBase), g.args.ram_bytes);
        end_checkpoint(*g.domain);
    } else {
        g.domain->stage2().release(Ipa(abi::kRamBase + c.args[0] * abi::kPageSize), c.args[1] * abi::kPageSize);
        g.domain->wake_copy_waiters();
    }
    return Status::Ok;
}

}  // namespace proa::hv
