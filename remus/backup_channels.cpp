// What the backup hears: greetings, the first copy, checkpoints, heartbeats.
#include <openssl/crypto.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "migrate/on_guest.hpp"
#include "migrate/page_batch.hpp"
#include "remus/backup.hpp"

namespace proa::remus {
namespace {

using migrate::on_guest;
using transport::ErrorKind;

constexpr std::uint64_t kHashesARecord = 4096;
// How long a primary that asks for this host's memory waits to hear that it isn't there yet.
constexpr std::chrono::milliseconds kMemoryWait{100};

tl::unexpected<transport::Error> refuse(const std::string& why) {
    return transport::fail(ErrorKind::Protocol, "peer's stream refused: " + why);
}
tl::unexpected<transport::Error> local(const vmm::Error& e) {
    return transport::fail(ErrorKind::Refused, e.what, e.remedy);
}

}  // namespace

transport::Result<HelloRecord> Backup::greet(transport::Channel& c) {
    auto f = migrate::receive(c);
    if (!f) return tl::unexpected(f.error());
    if (!is(*f, Record::Hello)) return tl::unexpected(migrate::unexpected_record(*f));
    auto h = decode_hello(f->payload);
    if (!h) return h;
    if (!migrate::same_token(h->token, options_.token)) return refuse("wrong token");
    bool same = h->disks.size() == options_.disks.size();
    for (std::size_t i = 0; i < h->disks.size() && same; ++i)
        same = h->disks[i].name == options_.disks[i].name && h->disks[i].size == options_.disks[i].size;
    if (!same) return refuse("other disks than were agreed on");
    std::lock_guard lock(mutex_);
    if (ending_ || state_ != BackupState::Receiving) return refuse("this backup takes no primary any more");
    if ((joined_ >> h->channel & 1) != 0) return refuse("channel opened twice");
    if (joined_ != 0 && h->term != term_) return refuse("the channels are of different terms");
    joined_ |= 1u << h->channel;
    term_ = h->term;
    primary_ = c.peer();
    live_.push_back(&c);
    if (h->channel == 0) checkpoints_ = &c;
    return h;
}

void Backup::serve(std::unique_ptr<transport::Channel> c) {
    auto h = greet(*c);
    if (!h) {  // a stranger: no reason to give up
        spdlog::warn("{}: {}: {}", guest_.name(), c->peer(), h.error().what);
        (void)migrate::send(*c, migrate::Record::Abort,
                            migrate::encode_abort({h.error().what, h.error().remedy}));
        return;
    }
    auto hello = send(*c, Record::HelloAck);
    if (h->channel == 1) {
        std::lock_guard lock(mutex_);
        std::erase(live_, c.get());
        if (ending_) return;
        heart_ = std::make_unique<Heart>(std::move(c), h->term, options_.detector, [this](bool silent) {
            carry_out(silent ? event(BackupEvent::PrimaryLost, {"no heartbeat of the primary", ""})
                             : event(BackupEvent::PrimaryBack));
        });
        return;
    }
    guest_.begin_memory();
    if (auto r = hello ? serve_checkpoints(*c) : hello; !r) {
        // A primary whose words can't be trusted is not one to fail over from; one that is silent may be dead.
        const bool nonsense = r.error().kind == ErrorKind::Protocol || r.error().kind == ErrorKind::Refused;
        const vmm::Error why{r.error().what, r.error().remedy};
        carry_out(event(nonsense ? BackupEvent::CannotRun : BackupEvent::PrimaryLost, why));
    }
    // What it says last goes out on this channel: it stays until that is said.
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return ending_ || reported_; });
    checkpoints_ = nullptr;
    std::erase(live_, c.get());
}

transport::Result<void> Backup::send_hashes(transport::Channel& c) {
    for (std::uint32_t d = 0; d < replicas_.size(); ++d) {
        const std::uint64_t blocks = (options_.disks[d].size + kHashBlock - 1) / kHashBlock;
        for (std::uint64_t first = 0; first < blocks;) {
            const std::uint64_t n = std::min(kHashesARecord, blocks - first);
            auto hashes = replicas_[d]->hashes(first, n);
            if (!hashes) return local(hashes.error());
            const DiskHashesRecord r{d, first, kHashBlock, first + n == blocks, std::move(*hashes)};
            if (auto s = answer(c, Record::DiskHashes, encode(r)); !s) return s;
            first += n;
        }
        if (auto r = replicas_[d]->begin_sync(); !r) return local(r.error());
    }
    return {};
}

// Before checkpoint 1 nothing here is worth anything as a whole: pages and blocks are applied as they come.
transport::Result<void> Backup::first_copy(const transport::Frame& f) {
    if (migrate::is(f, migrate::Record::Pages)) {
        auto n = migrate::apply_batch(f.payload, guest_.memory().bytes());
        if (!n) return tl::unexpected(n.error());
        return {};
    }
    auto w = decode_disk_writes(f.payload);
    if (!w) return tl::unexpected(w.error());
    if (w->disk >= replicas_.size()) return refuse("a disk that wasn't agreed on");
    if (auto r = replicas_[w->disk]->sync_write(*w); !r) return local(r.error());
    return {};
}

transport::Result<void> Backup::serve_checkpoints(transport::Channel& c) {
    std::vector<std::uint64_t> sizes;
    for (const auto& d : options_.disks) sizes.push_back(d.size);
    std::vector<std::string> names;
    for (const vmm::Device* d : guest_.devices()) names.push_back(d->name());
    const std::uint64_t memory = guest_.memory().size();
    buffer_ = std::make_unique<CheckpointBuffer>(
        guest_.memory().bytes(), sizes, names, term_,
        options_.most_checkpoint_bytes != 0 ? options_.most_checkpoint_bytes : memory + memory / 4);
    if (auto r = send_hashes(c); !r) return r;
    bool begun = false;
    transport::Frame f;
    for (;;) {
        if (auto r = migrate::receive(c, f, transport::Patience::Idle); !r) return r;
        {
            std::lock_guard lock(mutex_);
            last_sign_ = Clock::now();
        }
        if (is(f, Record::Yours)) {
            auto e = decode_epoch(f.payload);
            if (!e) return tl::unexpected(e.error());
            if (e->term != term_ || e->epoch != epoch_) return refuse("yields another epoch than the last");
            carry_out(event(BackupEvent::Yours, {"the primary hands over", ""}));
            return {};
        }
        if (is(f, Record::Dismiss)) {
            carry_out(event(BackupEvent::Dismissed, {"the primary ended the protection", ""}));
            return {};
        }
        if (!begun && (migrate::is(f, migrate::Record::Pages) || is(f, Record::DiskBlocks))) {
            if (auto r = first_copy(f); !r) return r;
            continue;
        }
        if (!begun && is(f, Record::Sync)) {
            auto there = guest_.has_memory(kMemoryWait);
            if (!there) return local(there.error());
            if (auto r = answer(c, *there ? Record::Synced : Record::Wait); !r) return r;
            continue;
        }
        begun = true;
        auto whole = buffer_->take(f);
        if (!whole) return tl::unexpected(whole.error());
        if (!*whole) continue;
        auto goes_on = committed(c);
        if (!goes_on) return tl::unexpected(goes_on.error());
        if (!*goes_on) return {};
    }
}

// A whole checkpoint is here. From its acknowledgement on it can't be lost by what becomes of the primary; a replica that
// then fails to take its writes makes this copy useless: it says so, and never claims.
transport::Result<bool> Backup::committed(transport::Channel& c) {
    std::lock_guard commit(committing_);
    {
        std::lock_guard lock(mutex_);
        if (ending_ || (state_ != BackupState::Receiving && state_ != BackupState::Standby &&
                        state_ != BackupState::Claiming)) {
            buffer_->drop();
            return false;
        }
    }
    CheckpointBuffer::Committed k = buffer_->commit();
    if (!has_checkpoint_) {
        // Everything a start could fail on is tried once, while the primary can still do without this backup.
        if (auto r = guest_.wait_for_memory(); !r) return local(r.error());
        if (auto r = try_state(k.machine, k.devices); !r) return tl::unexpected(r.error());
    }
    machine_ = std::move(k.machine);
    devices_ = std::move(k.devices);
    has_checkpoint_ = true;
    const auto received = Clock::now();
    // If the link is gone the checkpoint is whole all the same.
    const auto told = answer(c, Record::Ack, encode(AckRecord{term_, k.epoch}));
    for (std::uint32_t d = 0; d < replicas_.size(); ++d) {
        std::vector<DiskWritesRecord> mine;
        for (auto& w : k.disk_writes)
            if (w.disk == d) mine.push_back(std::move(w));
        if (auto r = replicas_[d]->apply(term_, k.epoch, mine); !r) return local(r.error());
    }
    {
        std::lock_guard lock(mutex_);
        epoch_ = k.epoch;
    }
    CheckpointSample s;
    s.paused_at = s.resumed_at = received;
    s.acknowledged_at = Clock::now();
    s.epoch = k.epoch;
    s.dirty_pages = k.pages;
    stats_.add(s);
    carry_out(event(BackupEvent::Committed));
    if (!told) return tl::unexpected(told.error());
    return true;
}

transport::Result<void> Backup::try_state(const vmm::MachineState& m,
                                          const std::vector<migrate::DeviceState>& d) {
    const auto r = on_guest(guest_, [&] { return load(m, d); });
    if (!r) return local(r.error());
    return {};
}

}  // namespace proa::remus
