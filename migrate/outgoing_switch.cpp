// The source's side of the switchover: the guest is stopped, its last pages and its state go, the destination is told to
// start it; and the ways back.
#include <spdlog/spdlog.h>

#include "migrate/on_guest.hpp"
#include "migrate/outgoing.hpp"

namespace proa::migrate {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

void Outgoing::part_over(double& ms) {
    const auto now = Clock::now();
    ms = std::chrono::duration<double, std::milli>(now - part_).count();
    part_ = now;
}

// The destination rehearses too (incoming.cpp). Nothing may be saved here yet, but encoding is most of the code.
void Outgoing::rehearse() {
    vmm::MachineState s;
    s.vcpus.resize(1);
    (void)encode_machine(s);
    (void)encode_device({"rehearsal", Bytes(1)});
    (void)encode_late({"rehearsal", Bytes(1)});
    (void)late_frames();  // none: no device is quiesced
}

vmm::Result<void> Outgoing::save_state(Records& state) {
    auto s = guest_.machine().save();
    if (!s) return tl::unexpected(s.error());
    state.emplace_back(Record::Machine, encode_machine(*s));
    for (vmm::Device* d : guest_.devices())
        state.emplace_back(Record::Device, encode_device({d->name(), d->save()}));
    const auto devices = static_cast<std::uint32_t>(state.size() - 1);
    state.emplace_back(Record::StateComplete, encode_complete({round_, devices}));
    return {};
}

vmm::Result<void> Outgoing::stop_and_send() {
    if (auto r = check(); !r) return r;
    (void)event(SourceEvent::StopGuest);
    Records state;
    auto frozen = on_guest(guest_, [&]() -> vmm::Result<void> {
        part_ = Clock::now();
        if (auto r = guest_.freeze(); !r) return r;
        if (auto n = collect(); !n) return tl::unexpected(n.error());
        part_over(stats_.downtime.freeze_ms);
        return save_state(state);
    });
    if (!frozen) return frozen;
    // The state before the last pages: the destination loads it while they are on their way.
    if (auto sent = from_peer(send(*control_, state)); !sent) return sent;
    part_over(stats_.downtime.state_ms);
    auto s = send_round(true);
    if (!s) return tl::unexpected(s.error());
    stats_.rounds.push_back(*s);
    part_over(stats_.downtime.last_pages_ms);
    unsent_late_ = late_frames();  // while the destination loads
    // The last round's acknowledgement comes on the way to Ready.
    if (auto ack = from_peer(expect(*control_, Record::RoundAck)); !ack) return tl::unexpected(ack.error());
    if (auto ready = from_peer(expect(*control_, Record::Ready)); !ready) return tl::unexpected(ready.error());
    part_over(stats_.downtime.ready_ms);
    return {};
}

vmm::Result<void> Outgoing::commit() {
    if (event(SourceEvent::ReadyCame) != SourceAction::SendCommit) return check();
    // What came since the freeze is there when the guest starts.
    Records records = std::exchange(unsent_late_, {});
    records.emplace_back(Record::Commit, Bytes());
    if (auto r = from_peer(send(*control_, records)); !r) return r;
    if (auto r = from_peer(expect(*control_, Record::Started)); !r) return tl::unexpected(r.error());
    part_over(stats_.downtime.start_ms);
    (void)event(SourceEvent::StartedCame);
    // And what came before the network had learnt where it is now. Not worth an error any more.
    if (const auto more = late_frames(); !more.empty()) (void)send(*control_, more);
    stats_.late_frames = late_.size();
    return {};
}

// Packets that reach this host while the guest stands still follow it: a TCP peer would otherwise wait for its
// retransmission timer, longer than the whole move takes. Bounded as the destination bounds it.
Records Outgoing::late_frames() {
    Records frames;
    on_guest(guest_, [&] {
        std::size_t bytes = 0;
        for (const auto& f : late_) bytes += f.frame.size();
        for (vmm::Device* d : guest_.devices())
            for (auto& b : d->take_input(kMaxLateFrames - late_.size())) {
                if (b.empty() || b.size() > kMaxLateFrame || bytes + b.size() > kMaxLateBytes) continue;
                bytes += b.size();
                late_.push_back({d->name(), std::move(b)});
                frames.emplace_back(Record::LateFrame, encode_late(late_.back()));
            }
        return 0;
    });
    return frames;
}

void Outgoing::ask() {
    std::optional<SourceEvent> answer;
    for (unsigned tries = 0; tries < options_.ask_tries && !answer; ++tries) {
        if (tries > 0) std::this_thread::sleep_for(options_.ask_pause);
        answer = options_.ask ? options_.ask() : std::nullopt;
    }
    if (answer) {
        (void)event(*answer);
        return;
    }
    error_ = {
        "the link was lost at the moment of commit and the destination can't tell whether the guest runs "
        "there: "
        "it stays paused here",
        "when " + options_.host + " is reachable: proa migrate --resolve " + guest_.name() +
            "; if that host is dead for certain: proa unpause " + guest_.name()};
    on_guest(guest_, [this] {
        guest_.set_state(vmm::GuestState::InDoubt);
        return 0;
    });
}

void Outgoing::resolve(Resolved done) {
    if (thread_.joinable()) thread_.join();  // it has said Done
    thread_ = std::thread([this, done = std::move(done), alive = std::weak_ptr(alive_)] {
        const auto answer = options_.ask ? options_.ask() : std::nullopt;
        boost::asio::post(guest_.io(), [this, done, alive, answer] {
            if (alive.expired()) return;
            SourceStep s{state(), SourceAction::None};
            if (answer) {
                std::lock_guard lock(mutex_);
                s = step(state_, *answer);
                state_ = s.next;
            }
            if (s.action == SourceAction::ResumeGuest)
                if (auto r = resume_guest(); !r)
                    spdlog::error("{}: cannot resume: {}", guest_.name(), r.error().what);
            done(s.next);
        });
    });
}

void Outgoing::resume() {
    {
        std::lock_guard lock(mutex_);
        const SourceStep s = step(state_, SourceEvent::OperatorResumes);
        if (s.action != SourceAction::ResumeGuest) return;
        state_ = s.next;
    }
    if (auto r = resume_guest(); !r) spdlog::error("{}: cannot resume: {}", guest_.name(), r.error().what);
}

vmm::Result<void> Outgoing::resume_guest() {
    using vmm::GuestState;
    (void)guest_.machine().set_throttle(0);
    const auto was = guest_.state();
    auto r = was == GuestState::Switching || was == GuestState::InDoubt ? guest_.thaw() : vmm::Result<void>{};
    if (std::exchange(logging_, false)) (void)guest_.machine().dirty_log(abi::DirtyLogMode::Off);
    const auto now = guest_.state();  // it may have ended meanwhile
    if (now == GuestState::Migrating || now == GuestState::Switching || now == GuestState::InDoubt)
        guest_.set_state(GuestState::Running);
    for (const auto& f : std::exchange(late_, {}))
        for (vmm::Device* d : guest_.devices())
            if (d->name() == f.device) d->give_input(f.frame);
    return r;
}

}  // namespace proa::migrate
