#include "remus/primary.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace proa::remus {
namespace {

using Clock = std::chrono::steady_clock;
using migrate::on_guest;

constexpr std::chrono::seconds kGrace{3};  // what the destructor lets a settling take

}  // namespace

Primary::Primary(vmm::Guest& guest, std::shared_ptr<Witness> witness, PrimaryOptions options, Hooks hooks)
    : guest_(guest),
      witness_(std::move(witness)),
      options_(std::move(options)),
      hooks_(std::move(hooks)),
      machine_(*guest.machine().checkpoints()),
      output_(*guest.output()),
      image_(guest.memory(), machine_),
      encoder_(guest.memory().pages(), options_.cache_bytes),
      pacing_(options_.pacing),
      compressor_(options_.compress),
      thread_([this] { run(); }) {}

Primary::~Primary() {
    stop();
    {
        std::unique_lock lock(mutex_);
        const auto over = [this] {
            return state_ == PrimaryState::Alone || state_ == PrimaryState::Unprotected ||
                   state_ == PrimaryState::Superseded || state_ == PrimaryState::Left;
        };
        wake_.wait_for(lock, kGrace, over);
        abandoned_ = true;
        if (data_) data_->cancel();
        wake_.notify_all();
    }
    thread_.join();
    keeper_.reset();
    heart_.reset();
}

PrimaryState Primary::state() const {
    std::lock_guard lock(mutex_);
    return state_;
}

void Primary::post(PrimaryEvent e) {
    std::lock_guard lock(mutex_);
    inbox_.push_back(e);
    wake_.notify_all();
}
void Primary::end(const char* why) {
    {
        std::lock_guard lock(mutex_);
        if (*why_stopped_ == 0) why_stopped_ = why;
    }
    post(PrimaryEvent::Stop);
}
void Primary::stop() {
    end("protection was stopped");
}
void Primary::hand_over() {
    post(PrimaryEvent::HandOver);
}
void Primary::fenced() {
    post(PrimaryEvent::FenceFired);
    std::lock_guard lock(mutex_);
    // What a checkpoint waits for is of no use any more; the backup's last word would be.
    if (data_ && state_ != PrimaryState::Settling) data_->cancel();
}

bool Primary::waiting(PrimaryEvent e) const {
    std::lock_guard lock(mutex_);
    return std::find(inbox_.begin(), inbox_.end(), e) != inbox_.end();
}
bool Primary::take(PrimaryEvent e) {
    std::lock_guard lock(mutex_);
    return std::erase(inbox_, e) != 0;
}

// What an engine that waits for nothing looks at between two steps.
vmm::Result<void> Primary::check() {
    std::lock_guard lock(mutex_);
    if (abandoned_) return vmm::fail("the guest ends");
    for (const PrimaryEvent e : inbox_) {
        if (e == PrimaryEvent::Stop) return vmm::fail(why_stopped_);
        if (e == PrimaryEvent::FenceFired) return vmm::fail("the lease could not be renewed in time");
        if (e == PrimaryEvent::BackupLost) return vmm::fail(options_.host + " is silent");
    }
    return {};
}

PrimaryAction Primary::event(PrimaryEvent e, const vmm::Error& why) {
    PrimaryStep s;
    PrimaryState was;
    {
        std::lock_guard lock(mutex_);
        was = state_;
        s = step(state_, e);
        state_ = s.next;
        if (!why.what.empty()) error_ = why;
        wake_.notify_all();
    }
    if (s.next != was) {
        stats_.event(std::string(name_of(s.next)) + (why.what.empty() ? "" : ": " + why.what));
        spdlog::info("{}: protection: {}{}{}", guest_.name(), name_of(s.next), why.what.empty() ? "" : ": ",
                     why.what);
    }
    return s.action;
}

void Primary::run() {
    auto r = run_protection();
    if (!r) wind_up(r.error());
    keeper_.reset();
    heart_.reset();
    for (auto& l : disk_logs_) l->close();
    vmm::Error why;
    PrimaryState s;
    {
        std::lock_guard lock(mutex_);
        s = state_;
        why = error_;
        if (data_) data_->cancel();
    }
    // Through the guest's thread, so that nothing posted to it before still needs this object.
    on_guest(guest_, [&] {
        boost::asio::post(guest_.io(), [changed = hooks_.changed, s, why] { changed(s, why); });
        return 0;
    });
}

vmm::Result<void> Primary::run_protection() {
    if (auto r = claim(); !r) return r;
    if (auto r = connect(); !r) return r;
    if (auto r = sync_disks(); !r) return r;
    if (auto r = sync_memory(); !r) return r;
    if (auto r = checkpoints(); !r) return r;
    return yielded();
}

vmm::Result<void> Primary::claim() {
    std::uint64_t sent = 0;
    const auto ask = [&] {
        sent = machine_.counter();
        return witness_->claim(guest_.name(), options_.this_host, options_.session, options_.lease.ttl);
    };
    auto c = ask();
    // This host's own older claim on the name is of a guest that is no more: names are unique on a host.
    if (c && !c->held && c->holder.settled && c->holder.host == options_.this_host) {
        (void)witness_->release(guest_.name(), c->holder.session);
        c = ask();
    }
    if (!c) return tl::unexpected(c.error());
    if (!c->held)
        return vmm::fail("the witness says that " + c->holder.host + " runs " + guest_.name() +
                             (c->holder.settled ? " alone" : ", protected"),
                         "destroy it there, or, if that host is gone for good, delete the guest's key "
                         "(docs/HA.md, The witness)");
    {
        std::lock_guard lock(mutex_);
        held_ = *c->held;
    }
    keeper_ = std::make_unique<LeaseKeeper>(
        *witness_, held_, sent, options_.lease,
        LeaseKeeper::Hooks{
            [this] { end("the witness has given the guest's key away"); },
            // The backup's word that it lets go is as good as the witness's: while there is time to ask it.
            [this] { end("the witness doesn't answer, and the lease runs out"); },
            [this](std::uint64_t at) { machine_.fence_at(at); }, [this] { return machine_.counter(); },
            machine_.counter_hz()});
    (void)event(PrimaryEvent::Granted);
    return {};
}

vmm::Result<void> Primary::connect() {
    report("connecting", 0);
    for (vmm::Disk* d : guest_.disks())
        if (std::find(options_.disks.begin(), options_.disks.end(), d->name()) != options_.disks.end())
            disks_.push_back(d);
    if (disks_.size() != options_.disks.size()) return vmm::fail("a disk to replicate isn't there");
    HelloRecord h;
    h.token = options_.token;
    h.term = held_.term;
    for (const vmm::Disk* d : disks_) h.disks.push_back({d->name(), d->size()});
    std::unique_ptr<transport::Channel> channels[2];
    for (std::uint32_t i = 0; i < 2; ++i) {
        if (auto r = check(); !r) return r;
        auto c = from_peer(transport::dial(options_.host, options_.port, options_.channel));
        if (!c) return tl::unexpected(c.error());
        h.channel = i;
        if (auto r = from_peer(send(**c, Record::Hello, encode(h))); !r) return r;
        auto ack = from_peer(migrate::receive(**c));
        if (!ack) return tl::unexpected(ack.error());
        if (!is(*ack, Record::HelloAck)) return refused(*ack);
        channels[i] = std::move(*c);
    }
    {
        std::lock_guard lock(mutex_);
        data_ = std::move(channels[0]);
    }
    heart_ =
        std::make_unique<Heart>(std::move(channels[1]), held_.term, options_.detector, [this](bool silent) {
            if (!silent) return;
            post(PrimaryEvent::BackupLost);
            std::lock_guard lock(mutex_);
            data_->cancel();
        });
    return {};
}

vmm::Result<void> Primary::put(Record r, View payload) {
    const auto squeezed = payload.size() < 512 ? View{} : View(compressor_.compress(payload));
    const auto type = static_cast<std::uint16_t>(r);
    return from_peer(squeezed.empty()
                         ? data_->send(type, payload)
                         : data_->send_compressed(type, squeezed, static_cast<std::uint32_t>(payload.size())));
}

vmm::Result<void> Primary::send_writes(Record r, const DiskWritesRecord& w) {
    return put(r, encode(w));
}

// Makes what a new checkpoint would lack: from here on the guest goes its way with its output held and its fence armed.
void Primary::carry_out(PrimaryAction a) {
    switch (a) {
        case PrimaryAction::Settle: ask_witness(); break;
        case PrimaryAction::OpenOutput: open_output(stopped_); break;
        case PrimaryAction::Resume: open_output(true); break;
        case PrimaryAction::ReleaseKey:
            open_output(stopped_);
            if (data_) (void)send(*data_, Record::Dismiss, encode(EpochRecord{held_.term, acknowledged_}));
            (void)witness_->release(guest_.name(), options_.session);
            break;
        case PrimaryAction::Destroy:
            keeper_.reset();
            on_guest(guest_, [this] {
                (void)guest_.machine().pause();
                output_.shut();
                end_tracking();
                return 0;
            });
            break;
        case PrimaryAction::None:
        case PrimaryAction::Sync:
        case PrimaryAction::HoldAndArm:  // in the pause of the first checkpoint
        case PrimaryAction::FreezeLast:  // checkpoint(true)
        case PrimaryAction::Yield:       // yielded()
        case PrimaryAction::Count: break;
    }
}

// The end of protection where the guest goes on: nothing is held, tracked or fenced any more.
void Primary::open_output(bool resume) {
    if (keeper_) {
        keeper_->disarm();
        keeper_->stop();
    }
    on_guest(guest_, [&] {
        machine_.fence_at(0);
        guest_.hear_events();  // from here on no fence can fire: one that just has is known
        if (take(PrimaryEvent::FenceFired)) {
            (void)event(PrimaryEvent::FenceFired);
            resume = true;
        }
        end_tracking();
        output_.open();
        if (resume)
            if (auto r = guest_.thaw(); !r)
                spdlog::error("{}: cannot resume: {}", guest_.name(), r.error().what);
        return 0;
    });
    stopped_ = stopped_ && !resume;
    keeper_.reset();  // last: it may wait for a witness that is silent
}

// On the guest's thread.
void Primary::end_tracking() {
    guest_.memory().watch(nullptr);
    image_.end();
    for (auto& l : disk_logs_) l->close();
    for (vmm::Disk* d : disks_) d->observe(nullptr);
    if (std::exchange(machine_started_, false)) (void)machine_.stop();
}

// From whatever went wrong, or was asked for, to a state in which this copy's right to run is certain.
void Primary::wind_up(const vmm::Error& why) {
    const bool fence = take(PrimaryEvent::FenceFired);
    const bool asked = take(PrimaryEvent::Stop);
    stopped_ = stopped_ || fence;
    if (state() == PrimaryState::Claiming) {
        carry_out(event(PrimaryEvent::Refused, why));
    } else if (fence) {
        carry_out(event(PrimaryEvent::FenceFired, why));
    } else if (asked) {
        carry_out(event(PrimaryEvent::Stop, why));
    } else if (last_word_ == PrimaryEvent::BackupGone) {
        backup_gone(why);
    } else if (last_word_) {
        carry_out(event(*last_word_, why));
    } else {
        {
            std::lock_guard lock(mutex_);
            if (data_) data_->cancel();  // or the backup would think that this is the link it can rely on
        }
        carry_out(event(PrimaryEvent::BackupLost, why));
    }
}

// The backup is asked to let the guest go. Its word that it has not run and never will is as good as the witness's, and
// reaches further: a pair can part while the witness is away.
bool Primary::dismissed() {
    if (!data_ || !heart_ || state() != PrimaryState::Settling) return false;
    if (!send(*data_, Record::Dismiss, encode(EpochRecord{held_.term, acknowledged_}))) return false;
    while (auto f = migrate::receive(*data_)) {
        if (is(*f, Record::Gone)) return backup_gone({}), true;
        if (is(*f, Record::Active)) return carry_out(event(PrimaryEvent::TakenOver)), true;
        if (!is(*f, Record::Ack)) return false;
    }
    return false;
}

// Nobody could claim any more. The term is closed all the same, if the witness is there to do it: then the next protection
// begins with a key that is nobody's.
void Primary::backup_gone(const vmm::Error& why) {
    carry_out(event(PrimaryEvent::BackupGone, why));
    (void)witness_->settle(guest_.name(), options_.this_host, options_.session, held_);
}

void Primary::ask_witness() {
    if (dismissed()) return;
    bool told = false;
    for (;;) {
        if (take(PrimaryEvent::FenceFired)) {
            stopped_ = true;
            (void)event(PrimaryEvent::FenceFired);
        }
        auto a = witness_->settle(guest_.name(), options_.this_host, options_.session, held_);
        if (a && *a != Witness::Answer::Contested)
            return carry_out(event(*a == Witness::Answer::Yes ? PrimaryEvent::Settled : PrimaryEvent::NotOurs));
        if (!a && !std::exchange(told, true))
            spdlog::warn("{}: the witness doesn't answer: {}; asking again", guest_.name(), a.error().what);
        std::unique_lock lock(mutex_);
        wake_.wait_for(lock, options_.witness_pause, [this] { return abandoned_; });
        if (abandoned_) return;
    }
}

// A planned failover, after the last checkpoint was acknowledged: the key goes, and the backup is told, whatever the witness
// has said: its claim finds out.
vmm::Result<void> Primary::yielded() {
    (void)event(PrimaryEvent::LastAcked);
    keeper_.reset();
    on_guest(guest_, [this] {
        output_.release(epoch_);
        return 0;
    });
    (void)witness_->release(guest_.name(), options_.session);
    if (auto r = put(Record::Yours, encode(EpochRecord{held_.term, epoch_})); !r) return r;
    auto f = from_peer(migrate::receive(*data_));
    if (!f) return tl::unexpected(f.error());
    if (!is(*f, Record::Active)) return refused(*f);
    carry_out(event(PrimaryEvent::TakenOver));
    return {};
}

// What the backup says instead of what was to come: its last word, or nonsense.
tl::unexpected<vmm::Error> Primary::refused(const transport::Frame& f) {
    if (is(f, Record::Gone)) last_word_ = PrimaryEvent::BackupGone;
    if (is(f, Record::Active)) last_word_ = PrimaryEvent::TakenOver;
    if (last_word_ == PrimaryEvent::BackupGone) {
        const auto why = migrate::decode_abort(f.payload);
        return vmm::fail(options_.host + " gives up: " + why.what, why.remedy);
    }
    const auto e = migrate::unexpected_record(f);
    return vmm::fail(options_.host + ": " + e.what, e.remedy);
}

void Primary::report(const char* phase, double percent) {
    if (!hooks_.progress || Clock::now() - last_report_ < std::chrono::milliseconds(100)) return;
    last_report_ = Clock::now();
    nlohmann::json j{{"phase", phase}, {"percent", percent}};
    {
        std::lock_guard lock(mutex_);
        j["sent_bytes"] = data_ ? data_->bytes_sent() : 0;
    }
    boost::asio::post(guest_.io(), [p = hooks_.progress, j = std::move(j)] { p(j); });
}

void Primary::status(nlohmann::json& j) const {
    j["role"] = "primary";
    j["state"] = name_of(state());
    j["peer"] = options_.host;
    {
        std::lock_guard lock(mutex_);
        j["term"] = held_.term;
    }
    j["failover"] = nullptr;
    stats_.into(j);
}

}  // namespace proa::remus
