// The primary's copying: memory and disks while the guest runs, then one checkpoint after the other.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>

#include "migrate/page_batch.hpp"
#include "remus/disk_sync.hpp"
#include "remus/primary.hpp"

namespace proa::remus {
namespace {

using Clock = std::chrono::steady_clock;
using migrate::on_guest;

constexpr unsigned kMostRounds = 12;            // of the first copy
constexpr std::uint64_t kFewPages = 2048;       // left over for the first checkpoint
constexpr std::uint64_t kReleaseWords = 8 * 8;  // read pages stop being held in steps of 16 MiB

}  // namespace

// What a checkpoint is made of beside memory (image_ has that).
struct Primary::Snapshot {
    Clock::time_point paused_at, resumed_at;
    Bytes machine;
    std::vector<Bytes> devices;
    std::vector<DiskWritesRecord> writes;
    std::uint64_t pages = 0;
    bool final = false;
};

// The logs see every write from before the first block is read: what the copy reads too early comes again, later, with
// checkpoint 1.
vmm::Result<void> Primary::sync_disks() {
    auto observed = on_guest(guest_, [this]() -> vmm::Result<void> {
        if (guest_.state() != vmm::GuestState::Running) return vmm::fail(guest_.name() + " does not run");
        if (disks_.empty()) return {};
        if (auto r = guest_.pause_briefly(); !r) return r;
        for (std::uint32_t i = 0; i < disks_.size(); ++i) {
            disk_logs_.push_back(std::make_unique<DiskLog>(i, options_.disk_log_bytes));
            disks_[i]->observe(disk_logs_.back().get());
        }
        return guest_.go_on();
    });
    if (!observed) return observed;
    for (std::uint32_t i = 0; i < disks_.size(); ++i) {
        DiskSync sync(*disks_[i], i);
        while (!sync.complete()) {
            auto f = from_peer(migrate::receive(*data_));
            if (!f) return tl::unexpected(f.error());
            if (!is(*f, Record::DiskHashes)) return refused(*f);
            auto hashes = from_peer(decode_disk_hashes(f->payload));
            if (!hashes) return tl::unexpected(hashes.error());
            auto sent = sync.compare(
                *hashes, [this](const DiskWritesRecord& w) { return send_writes(Record::DiskBlocks, w); });
            if (!sent) return sent;
            if (auto r = send_written(); !r) return r;
            report("copying disks", 100 * static_cast<double>(sync.blocks()) * kHashBlock /
                                        static_cast<double>(disks_[i]->size()));
        }
    }
    return {};
}

// What was written to disks meanwhile, before checkpoint 1: nothing at the backup counts as whole yet.
vmm::Result<void> Primary::send_written() {
    for (auto& l : disk_logs_)
        for (const auto& w : l->take())
            if (auto r = send_writes(Record::DiskBlocks, w); !r) return r;
    return check();
}

vmm::Result<void> Primary::send_synced(const std::vector<std::uint64_t>& words) {
    migrate::BatchEncoder batch;
    const auto flush = [&]() -> vmm::Result<void> {
        if (batch.empty()) return {};
        const auto raw = batch.bytes();
        const auto squeezed = compressor_.compress(raw);
        const auto type = static_cast<std::uint16_t>(migrate::Record::Pages);
        auto r = squeezed.empty()
                     ? data_->send(type, raw)
                     : data_->send_compressed(type, squeezed, static_cast<std::uint32_t>(raw.size()));
        batch.clear();
        if (auto sent = from_peer(std::move(r)); !sent) return sent;
        return check();
    };
    for (std::uint64_t w = 0; w < words.size(); ++w) {
        for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
            const std::uint64_t page = w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
            batch.add(page, guest_.memory().page(page));
            if (!batch.full()) continue;
            if (auto r = flush(); !r) return r;
        }
        report("copying memory", 100 * static_cast<double>(w) / static_cast<double>(words.size()));
    }
    return flush();
}

// A standby's memory comes beside the first round, and may take longer. Waited for here, the guest's output doesn't wait too.
vmm::Result<void> Primary::wait_synced() {
    for (;;) {
        if (auto r = put(Record::Sync, {}); !r) return r;
        // However slow the link: what it still holds must arrive first. A backup that is silent meanwhile is heart_'s to notice.
        auto f = from_peer(migrate::receive(*data_, transport::Patience::Idle));
        if (!f) return tl::unexpected(f.error());
        if (is(*f, Record::Synced)) return {};
        if (!is(*f, Record::Wait)) return refused(*f);
        report("waiting for the standby's memory", 100);
        if (auto r = send_written(); !r) return r;
    }
}

// As pre-copy does: round after round of what was written meanwhile, until little is left. Memory that was never used is zero on
// both sides.
vmm::Result<void> Primary::sync_memory() {
    auto mode = guest_.machine().has_hardware_dirty_log() ? abi::DirtyLogMode::Hardware
                                                          : abi::DirtyLogMode::WriteProtect;
    dirtylog::Bitmap dirty(guest_.memory().pages());
    auto on = on_guest(guest_, [&]() -> vmm::Result<void> {
        auto r = machine_.start(mode);
        machine_started_ = r.has_value();
        if (!r) return r;
        guest_.memory().take_device_writes(dirty);
        guest_.memory().add_ever_written(dirty);
        return guest_.machine().accessed(dirty);
    });
    if (!on) return on;
    std::uint64_t before = dirty.count(), sent = 0;
    for (unsigned round = 0; round < kMostRounds; ++round) {
        sent += dirty.count();
        std::vector<std::uint64_t> words(dirty.words());
        dirty.drain([&](std::uint64_t w, std::uint64_t bits) { words[w] = bits; });
        if (auto r = send_synced(words); !r) return r;
        if (auto r = send_written(); !r) return r;
        if (round == 0)
            if (auto r = wait_synced(); !r) return r;
        auto n = on_guest(guest_, [&]() -> vmm::Result<std::uint64_t> {
            guest_.memory().take_device_writes(dirty);
            return guest_.machine().harvest(dirty);
        });
        if (!n) return tl::unexpected(n.error());
        const std::uint64_t left = dirty.count();
        if (left <= kFewPages || (round > 1 && left >= before)) break;
        before = left;
    }
    stats_.event("memory is copied: " + std::to_string(sent) + " pages");
    // The rest is dirty still: as if device models had written it, it goes with checkpoint 1.
    dirty.drain([&](std::uint64_t w, std::uint64_t bits) {
        for (; bits != 0; bits &= bits - 1)
            guest_.memory().mark_dirty(
                abi::kRamBase + (w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits))) * kPageBytes, 1);
    });
    return {};
}

vmm::Result<void> Primary::checkpoints() {
    auto due = Clock::now();
    for (;;) {
        if (auto r = check(); !r) return r;
        const bool final = epoch_ != 0 && take(PrimaryEvent::HandOver);
        if (final) (void)event(PrimaryEvent::HandOver);
        if (auto r = checkpoint(final); !r) return r;
        if (final) return {};
        if (auto r = wait_for_next(due); !r) return r;
    }
}

// From when a checkpoint was due to when the next one is: that each pause begins a little late must not add up. Adaptive pacing
// looks again after the shortest interval: output may have begun to wait.
vmm::Result<void> Primary::wait_for_next(Clock::time_point& due) {
    const auto last = due;
    for (;;) {
        const bool waits = on_guest(guest_, [this] { return output_.held().frames != 0; });
        const auto soon = last + std::chrono::duration_cast<Clock::duration>(pacing_.next(true));
        due = last + std::chrono::duration_cast<Clock::duration>(pacing_.next(waits));
        const auto now = Clock::now();
        if (now >= due) {
            if (now - due > due - last) due = now;  // what was missed isn't made up for
            return {};
        }
        std::unique_lock lock(mutex_);
        wake_.wait_until(lock, std::min(due, std::max(soon, now + std::chrono::milliseconds(5))),
                         [this] { return !inbox_.empty() || abandoned_; });
        if (!inbox_.empty() || abandoned_) {
            lock.unlock();
            return check();
        }
    }
}

// The pause. Everything in it is what the guest's users feel.
vmm::Result<Primary::Snapshot> Primary::pause_and_take(bool final) {
    return on_guest(guest_, [&]() -> vmm::Result<Snapshot> {
        Snapshot s;
        s.final = final;
        if (guest_.state() != vmm::GuestState::Running) return vmm::fail(guest_.name() + " does not run");
        s.paused_at = Clock::now();
        if (auto r = final ? guest_.freeze() : guest_.pause_briefly(); !r) return tl::unexpected(r.error());
        stopped_ = true;
        dirtylog::Bitmap dirty(guest_.memory().pages());
        guest_.memory().take_device_writes(dirty);
        auto n = machine_.hold(dirty);
        auto state = guest_.machine().save();
        if (!n) return tl::unexpected(n.error());
        if (!state) return tl::unexpected(state.error());
        s.pages = *n;
        for (vmm::Device* d : guest_.devices())
            s.devices.push_back(migrate::encode_device({d->name(), d->save()}));
        for (auto& l : disk_logs_)
            for (auto& w : l->take()) s.writes.push_back(std::move(w));
        std::vector<std::uint64_t> words(dirty.words());
        dirty.drain([&](std::uint64_t w, std::uint64_t bits) { words[w] = bits; });
        image_.begin(std::move(words));
        guest_.memory().watch(&image_);
        if (epoch_ == 1) {
            // From here on the backup may come to know enough to claim.
            (void)event(PrimaryEvent::FirstPause);
            if (options_.buffer_network) output_.hold(epoch_ + 1);
            keeper_->arm();
        } else {
            output_.seal(epoch_ + 1);
        }
        if (!final) {
            if (auto r = guest_.go_on(); !r) return tl::unexpected(r.error());
            stopped_ = false;
        }
        s.resumed_at = Clock::now();
        s.machine = migrate::encode_machine(*state);
        return s;
    });
}

vmm::Result<void> Primary::send_pages() {
    std::vector<std::uint8_t> staging(64 * kPageBytes);
    const auto flush = [&]() -> vmm::Result<void> {
        if (encoder_.empty()) return {};
        return put(Record::Pages, encoder_.take());
    };
    const auto& words = image_.words();
    std::uint64_t unreleased = 0;
    for (std::uint64_t w = 0; w < words.size(); ++w) {
        if (words[w] != 0) {
            image_.read(w, staging);
            for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
                const auto i = static_cast<std::uint64_t>(std::countr_zero(bits));
                encoder_.add(w * 64 + i, std::span(staging).subspan(i * kPageBytes, kPageBytes));
                if (!encoder_.full()) continue;
                if (auto r = flush(); !r) return r;
            }
        }
        // What has been read needs no copy: the guest may write it at full speed, before the rest is sent.
        if ((w + 1) % kReleaseWords == 0 && w + 1 < words.size()) {
            const bool any =
                std::any_of(words.begin() + static_cast<std::ptrdiff_t>(unreleased),
                            words.begin() + static_cast<std::ptrdiff_t>(w + 1), [](auto x) { return x != 0; });
            if (any)
                boost::asio::post(guest_.io(),
                                  [this, first = unreleased * 64, pages = (w + 1 - unreleased) * 64] {
                                      (void)machine_.release(first, pages);
                                  });
            unreleased = w + 1;
        }
    }
    return flush();
}

// A small checkpoint is one write: each more would cost both hosts a system call and an interrupt.
vmm::Result<void> Primary::send_checkpoint(Snapshot& s) {
    transport::Gathering together(*data_);
    if (auto r = put(Record::Begin, encode(BeginRecord{held_.term, epoch_})); !r) return r;
    const std::uint64_t before = encoder_.counts().sent();
    if (auto r = send_pages(); !r) return r;
    const std::uint64_t sent = encoder_.counts().sent() - before;
    auto released = on_guest(guest_, [this] {
        guest_.memory().watch(nullptr);
        image_.end();
        return machine_.release_all();
    });
    if (!released) return released;
    std::uint64_t writes = 0;
    for (const auto& w : s.writes) {
        writes += w.writes.size();
        if (auto r = send_writes(Record::DiskWrites, w); !r) return r;
    }
    const auto type = [](migrate::Record r) { return static_cast<std::uint16_t>(r); };
    if (auto r = from_peer(data_->send(type(migrate::Record::Machine), s.machine)); !r) return r;
    for (const auto& d : s.devices)
        if (auto r = from_peer(data_->send(type(migrate::Record::Device), d)); !r) return r;
    const EndRecord end{held_.term, epoch_, sent, writes, static_cast<std::uint32_t>(s.devices.size()),
                        s.final};
    if (auto r = put(Record::End, encode(end)); !r) return r;
    return from_peer(together.flush());
}

vmm::Result<void> Primary::wait_acknowledged(std::uint64_t epoch) {
    auto f = from_peer(migrate::receive(*data_));
    if (!f) return tl::unexpected(f.error());
    if (!is(*f, Record::Ack)) return refused(*f);
    auto a = from_peer(decode_ack(f->payload));
    if (!a) return tl::unexpected(a.error());
    if (a->term != held_.term || a->epoch != epoch)
        return vmm::fail(options_.host + " acknowledged another checkpoint");
    return {};
}

vmm::Result<void> Primary::checkpoint(bool final) {
    // The first one arms the fence. Were that near already, or past, the guest would stop with a backup that has nothing.
    if (epoch_ == 0 && keeper_->since_renewal() >= late_after(options_.lease))
        return vmm::fail("the witness doesn't answer", "protect it again when it does");
    ++epoch_;
    const std::uint64_t bytes = data_->bytes_sent();
    auto s = pause_and_take(final);
    if (!s) return tl::unexpected(s.error());
    if (auto r = send_checkpoint(*s); !r) return r;
    const std::uint64_t copied = image_.copied();
    if (auto r = wait_acknowledged(epoch_); !r) return r;
    acknowledged_ = epoch_;
    if (!final)  // the last one's leaves in yielded()
        on_guest(guest_, [this] {
            output_.release(epoch_);
            return 0;
        });
    encoder_.commit();
    const auto now = Clock::now();
    const CheckpointSample sample{
        s->paused_at, s->resumed_at, now, epoch_, s->pages, copied, data_->bytes_sent() - bytes};
    stats_.add(sample);
    pacing_.after(Seconds(sample.resumed_at - sample.paused_at), Seconds(now - sample.paused_at));
    if (epoch_ == 1) {
        stats_.event("checkpoint 1 is there: " + std::to_string(s->pages) + " pages");
        const auto state_now = state();
        boost::asio::post(guest_.io(), [changed = hooks_.changed, state_now] { changed(state_now, {}); });
    }
    return {};
}

}  // namespace proa::remus
