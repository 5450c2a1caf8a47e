#include "remus/backup.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>

#include "migrate/on_guest.hpp"

namespace proa::remus {
namespace {

using migrate::on_guest;

double ms_between(std::chrono::steady_clock::time_point a, std::chrono::steady_clock::time_point b) {
    return std::chrono::duration<double, std::milli>(b - a).count();
}

}  // namespace

Backup::Backup(vmm::Guest& guest, std::shared_ptr<Witness> witness, BackupOptions options, Hooks hooks)
    : guest_(guest), witness_(std::move(witness)), options_(std::move(options)), hooks_(std::move(hooks)) {}

vmm::Result<std::unique_ptr<Backup>> Backup::listen(vmm::Guest& guest, std::shared_ptr<Witness> witness,
                                                    BackupOptions options, Hooks hooks) {
    std::unique_ptr<Backup> b(new Backup(guest, std::move(witness), std::move(options), std::move(hooks)));
    for (const auto& d : b->options_.disks) {
        auto r = DiskReplica::open(d.path, d.size, b->options_.state_directory, guest.name() + "-" + d.name);
        if (!r) return tl::unexpected(r.error());
        b->replicas_.push_back(std::move(*r));
    }
    auto l = transport::Listener::listen(
        b->options_.address, 0, b->options_.channel,
        [i = b.get()](std::unique_ptr<transport::Channel> c) { i->serve(std::move(c)); },
        [](const transport::Error& e) { spdlog::warn("replication channel refused: {}", e.what); });
    if (!l) return vmm::fail(l.error().what, l.error().remedy);
    b->listener_ = std::move(*l);
    auto timer = std::make_shared<boost::asio::steady_timer>(guest.io(), b->options_.first_contact);
    timer->async_wait([i = b.get(), alive = std::weak_ptr(b->alive_), timer](const auto& e) {
        if (e || alive.expired()) return;
        std::unique_lock lock(i->mutex_);
        if (i->joined_ != 0) return;
        lock.unlock();
        i->carry_out(i->event(BackupEvent::PrimaryLost, {"the primary did not come", ""}));
    });
    return b;
}

Backup::~Backup() {
    alive_.reset();
    {
        std::lock_guard lock(mutex_);
        ending_ = true;
        for (transport::Channel* c : live_) c->cancel();
        wake_.notify_all();
    }
    listener_.reset();
    heart_.reset();
    if (claiming_.joinable()) claiming_.join();
}

BackupState Backup::state() const {
    std::lock_guard lock(mutex_);
    return state_;
}

BackupAction Backup::event(BackupEvent e, const vmm::Error& why) {
    std::lock_guard lock(mutex_);
    if (ending_) return BackupAction::None;
    const BackupState was = state_;
    const BackupStep s = step(state_, e);
    state_ = s.next;
    if (!why.what.empty()) error_ = why;
    if (state_ == BackupState::Claiming && was == BackupState::Standby) suspected_ = Clock::now();
    if (state_ != was) {
        stats_.event(std::string(name_of(state_)) + (why.what.empty() ? "" : ": " + why.what));
        spdlog::info("{}: backup: {}{}{}", guest_.name(), name_of(state_), why.what.empty() ? "" : ": ",
                     why.what);
    }
    wake_.notify_all();
    return s.action;
}

void Backup::carry_out(BackupAction a) {
    switch (a) {
        case BackupAction::Claim: {
            std::lock_guard lock(mutex_);
            // One thread for this copy's life: it waits while there is nothing to ask for.
            if (!claiming_.joinable() && !ending_) claiming_ = std::thread([this] { ask_witness(); });
            break;
        }
        case BackupAction::Announce: say(Record::Active, encode(EpochRecord{term_, epoch_})); break;
        case BackupAction::ReleaseKey: (void)witness_->release(guest_.name(), options_.session); break;
        case BackupAction::Discard: {
            std::unique_lock lock(mutex_);
            const auto why = error_;
            lock.unlock();
            say(Record::Gone, migrate::encode_abort({why.what, why.remedy}));
            // Only now: the primary's fence may be near, and the witness silent.
            (void)witness_->release(guest_.name(), options_.session);
            break;
        }
        case BackupAction::Load:
        case BackupAction::Settle:
        case BackupAction::Run:  // these three: the claiming thread
        case BackupAction::StopClaiming:
        case BackupAction::None:
        case BackupAction::Count: break;
    }
    std::unique_lock lock(mutex_);
    const auto s = state_;
    const auto why = error_;
    lock.unlock();
    if (s == BackupState::Active || s == BackupState::Discarded) report(s, why);
}

// The last word on the checkpoint channel.
void Backup::say(Record r, View payload) {
    std::lock_guard lock(mutex_);
    if (checkpoints_ != nullptr) (void)answer(*checkpoints_, r, payload);
}

transport::Result<void> Backup::answer(transport::Channel& c, Record r, View payload) {
    std::lock_guard lock(answering_);
    return send(c, r, payload);
}

void Backup::report(BackupState s, const vmm::Error& why) {
    {
        std::lock_guard lock(mutex_);
        if (ending_ || std::exchange(reported_, true)) return;
        wake_.notify_all();
    }
    boost::asio::post(guest_.io(), [changed = hooks_.changed, s, why] { changed(s, why); });
}

// The claiming thread: claim, load, settle, run, each as the table says, and again.
void Backup::ask_witness() {
    for (std::unique_lock lock(mutex_);;) {
        const auto asks = [this] {
            return state_ == BackupState::Claiming || state_ == BackupState::Invited ||
                   state_ == BackupState::Deciding;
        };
        const auto over = [this] {
            return ending_ || state_ == BackupState::Active || state_ == BackupState::Discarded;
        };
        wake_.wait(lock, [&] { return over() || asks(); });
        if (over()) return;
        const bool deciding = state_ == BackupState::Deciding;
        lock.unlock();
        if (deciding)
            settle();
        else
            claim();
        lock.lock();
        if (state_ == BackupState::Deciding && !deciding) continue;  // at once
        wake_.wait_for(lock, options_.claim_pause, over);
    }
}

// No answer: it is asked again, and a human is told once.
void Backup::unanswered(const vmm::Error& e) {
    if (!std::exchange(unanswered_, true))
        spdlog::warn("{}: the witness doesn't answer: {}; asking again", guest_.name(), e.what);
}

void Backup::claim() {
    auto c = witness_->claim(guest_.name(), options_.this_host, options_.session, options_.claim_ttl, term_);
    if (!c) return unanswered(c.error());
    unanswered_ = false;
    if (!c->held) {
        const vmm::Error why{
            c->holder.host.empty() ? "the guest was ended" : c->holder.host + " runs the guest", ""};
        return c->never ? carry_out(event(BackupEvent::HeldForGood, why))
                        : carry_out(event(BackupEvent::HeldByLease));
    }
    held_ = *c->held;
    const BackupAction a = event(BackupEvent::Granted);
    if (a != BackupAction::Load) return carry_out(a);
    {
        std::lock_guard lock(mutex_);
        claimed_ = Clock::now();
    }
    vmm::Result<void> loaded;
    {
        std::lock_guard commit(committing_);         // what is whole is applied first
        for (auto& r : replicas_) (void)r->flush();  // what fails is found again by hand_over()
        loaded = on_guest(guest_, [this] { return load(machine_, devices_); });
    }
    carry_out(loaded ? event(BackupEvent::Loaded) : event(BackupEvent::CannotRun, loaded.error()));
}

void Backup::settle() {
    const auto s = witness_->settle(guest_.name(), options_.this_host, options_.session, held_);
    if (!s) return unanswered(s.error());
    if (*s == Witness::Answer::Contested) return;
    if (*s == Witness::Answer::Lost)
        return carry_out(
            event(BackupEvent::HeldForGood, {"the primary has settled before this backup did", ""}));
    if (event(BackupEvent::Settled) != BackupAction::Run) return;
    vmm::Result<void> runs;
    for (auto& r : replicas_)
        if (runs) runs = r->hand_over();  // the guest writes to them from here on
    if (runs) runs = on_guest(guest_, [this] { return guest_.start_incoming(); });
    {
        std::lock_guard lock(mutex_);
        running_ = Clock::now();
    }
    carry_out(runs ? event(BackupEvent::Runs) : event(BackupEvent::CannotRun, runs.error()));
}

vmm::Result<void> Backup::load(const vmm::MachineState& m, const std::vector<migrate::DeviceState>& states) {
    for (const auto& d : states) {
        const auto i = std::find_if(guest_.devices().begin(), guest_.devices().end(),
                                    [&](const vmm::Device* x) { return x->name() == d.name; });
        if (i == guest_.devices().end()) return vmm::fail("no device " + d.name + " here");
        (*i)->quiesce();
        if (auto r = (*i)->load(d.state); !r) return r;
    }
    return guest_.machine().load(m);
}

void Backup::status(nlohmann::json& j) const {
    stats_.into(j);
    std::lock_guard lock(mutex_);
    j["role"] = "backup";
    j["state"] = name_of(state_);
    j["peer"] = primary_;
    j["term"] = term_;
    j["epoch"] = epoch_;
    j["failover"] = nullptr;
    if (running_ == Clock::time_point{} || suspected_ == Clock::time_point{}) return;
    j["failover"] = {{"detected_ms", ms_between(last_sign_, suspected_)},
                     {"claimed_ms", ms_between(last_sign_, claimed_)},
                     {"running_ms", ms_between(last_sign_, running_)}};
}

}  // namespace proa::remus
