#include "migrate/incoming.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "migrate/on_guest.hpp"
#include "migrate/page_batch.hpp"

namespace proa::migrate {
namespace {

constexpr std::uint32_t kMaxRounds = 10'000;
constexpr std::chrono::seconds kLastPages{30};  // without any of them
constexpr std::chrono::seconds kLateFrames{2};  // for so long the source may send what it still gets

tl::unexpected<transport::Error> refuse(const std::string& why) {
    return transport::fail(transport::ErrorKind::Protocol, "peer's stream refused: " + why);
}
transport::Error remote(const vmm::Error& e) {
    return {transport::ErrorKind::Refused, e.what, e.remedy};
}
void give(vmm::Guest& g, const std::vector<LateFrame>& frames) {
    for (const auto& f : frames)
        for (vmm::Device* d : g.devices())
            if (d->name() == f.device) d->give_input(f.frame);
}
tl::unexpected<transport::Error> ended() {
    return transport::fail(transport::ErrorKind::Closed, "the migration has ended");
}

}  // namespace

Incoming::Incoming(vmm::Guest& guest, IncomingOptions options, Done done)
    : guest_(guest),
      options_(std::move(options)),
      session_(options_.sessions, options_.token),
      done_(std::move(done)),
      first_contact_(guest.io(), options_.first_contact) {}

vmm::Result<std::unique_ptr<Incoming>> Incoming::listen(vmm::Guest& guest, IncomingOptions options, Done done) {
    std::unique_ptr<Incoming> in(new Incoming(guest, std::move(options), std::move(done)));
    auto l = transport::Listener::listen(
        in->options_.address, 0, in->options_.channel,
        [i = in.get()](std::unique_ptr<transport::Channel> c) { i->serve(std::move(c)); },
        [](const transport::Error& e) { spdlog::warn("migration channel refused: {}", e.what); });
    if (!l) return vmm::fail(l.error().what, l.error().remedy);
    in->listener_ = std::move(*l);
    in->first_contact_.async_wait([i = in.get(), alive = std::weak_ptr(in->alive_)](const auto& e) {
        if (!e && !alive.expired() && !i->contacted())
            i->failed({transport::ErrorKind::Timeout, "the source did not come", ""});
    });
    return in;
}

Incoming::~Incoming() {
    first_contact_.cancel();
    {
        std::lock_guard lock(mutex_);
        for (transport::Channel* c : live_) c->cancel();
        if (state_ == TargetState::Receiving || state_ == TargetState::Loaded) state_ = TargetState::NeverStart;
        leaving_ = true;
        changed_.notify_all();
    }
    listener_.reset();
}

TargetAction Incoming::event(TargetEvent e) {
    std::lock_guard lock(mutex_);
    const TargetStep s = step(state_, e);
    state_ = s.next;
    changed_.notify_all();
    return s.action;
}

bool Incoming::contacted() {
    std::lock_guard lock(mutex_);
    return (joined_ & 1) != 0;
}

bool Incoming::receiving() {
    std::lock_guard lock(mutex_);
    return state_ == TargetState::Receiving;
}

transport::Result<void> Incoming::tell(Record r, View payload) {
    std::lock_guard lock(sending_);
    if (control_ == nullptr) return ended();
    return send(*control_, r, payload);
}

void Incoming::report(TargetState s, const vmm::Error& e) {
    {
        std::lock_guard lock(mutex_);
        if (std::exchange(reported_, true)) return;
    }
    boost::asio::post(guest_.io(), [done = done_, s, e] { done({s, e}); });
}

void Incoming::failed(const transport::Error& e) {
    if (event(TargetEvent::Failed) != TargetAction::Discard) return;
    (void)tell(Record::Abort, encode_abort({e.what, e.remedy}));
    {
        std::lock_guard lock(mutex_);
        for (transport::Channel* c : live_) c->cancel();
    }
    report(TargetState::NeverStart, {e.what, e.remedy});
}

void Incoming::discard(const std::string& why) {
    failed({transport::ErrorKind::Cancelled, why, ""});
}

transport::Result<HelloRecord> Incoming::greet(transport::Channel& c) {
    auto b = expect(c, Record::Hello);
    if (!b) return tl::unexpected(b.error());
    auto h = decode_hello(*b);
    if (!h) {
        (void)send(c, Record::Abort, encode_abort({h.error().what, h.error().remedy}));
        return h;
    }
    if (!same_token(h->token, options_.token)) return refuse("wrong token");
    std::lock_guard lock(mutex_);
    if (state_ != TargetState::Receiving) return ended();
    if ((channels_ != 0 && channels_ != h->channels) || (joined_ >> h->channel & 1) != 0)
        return refuse("channel opened twice");
    channels_ = h->channels;
    joined_ |= 1u << h->channel;
    live_.push_back(&c);
    return h;
}

void Incoming::serve(std::unique_ptr<transport::Channel> c) {
    auto h = greet(*c);
    if (!h) {  // a stranger: no reason to fail the migration
        spdlog::warn("{}: {}", c->peer(), h.error().what);
        return;
    }
    const bool control = h->channel == 0;
    if (control) {
        std::lock_guard lock(sending_);
        control_ = c.get();
    }
    auto r = send(*c, Record::Welcome);
    if (r) r = control ? receive_state(*c) : receive_pages(*c);
    if (!r && !control && r.error().kind == transport::ErrorKind::Closed) {
        // A source that ends the migration says why on the control channel and closes them all: let the reason win.
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::milliseconds(500),
                          [&] { return state_ != TargetState::Receiving; });
    }
    if (!r) failed(r.error());
    {
        std::lock_guard lock(sending_);
        if (control_ == c.get()) control_ = nullptr;
    }
    std::unique_lock lock(mutex_);
    live_.erase(std::find(live_.begin(), live_.end(), c.get()));
    // The source hangs up when the guest has just begun to run: a thread that ended now would take its CPU.
    changed_.wait(lock, [this] { return leaving_; });
}

// A data channel may be quiet for long: its part of a round may be small, or the others' rate limited.
transport::Result<void> Incoming::receive_pages(transport::Channel& c) {
    const auto ram = guest_.memory().bytes();
    transport::Frame f;
    for (std::uint32_t round = 0;;) {
        const auto received = receive(c, f, transport::Patience::Idle);
        if (!receiving()) return {};
        if (!received) return tl::unexpected(received.error());
        if (is(f, Record::Pages)) {
            if (auto r = apply_batch(f.payload, ram, &written_); !r) return tl::unexpected(r.error());
            ++batches_;
            continue;
        }
        if (!is(f, Record::RoundEnd)) return tl::unexpected(unexpected_record(f));
        const auto mark = decode_round(f.payload);
        if (!mark) return tl::unexpected(mark.error());
        if (*mark != round || round == kMaxRounds) return refuse("a round out of order");
        if (auto r = round_ended(round); !r) return r;
        if (is_final(round++)) return {};  // nothing more comes here: not woken when the source hangs up
    }
}

bool Incoming::is_final(std::uint32_t round) {
    std::lock_guard lock(mutex_);
    return final_round_ == round;
}

transport::Result<void> Incoming::round_ended(std::uint32_t round) {
    {
        std::lock_guard lock(mutex_);
        if (ended_.size() <= round) ended_.resize(round + 1);
        if (ended_[round] + 1 < channels_) {
            ++ended_[round];
            return {};
        }
    }
    // The source stops the guest when a round was acknowledged: not for memory that isn't there yet.
    if (round == 0)
        if (auto r = guest_.wait_for_memory(); !r) return tl::unexpected(remote(r.error()));
    // Acknowledged before it counts: Ready, which waits for it, must come after it.
    auto r = tell(Record::RoundAck, encode_round(round));
    std::lock_guard lock(mutex_);
    ++ended_[round];
    changed_.notify_all();
    return r;
}

transport::Result<void> Incoming::wait_round(std::uint32_t round) {
    std::unique_lock lock(mutex_);
    const auto over = [&] {
        return state_ != TargetState::Receiving || (ended_.size() > round && ended_[round] == channels_);
    };
    // The state came before the last pages, and those may be many: for as long as they keep coming.
    for (std::uint64_t seen = batches_; !changed_.wait_for(lock, kLastPages, over); seen = batches_)
        if (seen == batches_)
            return transport::fail(transport::ErrorKind::Timeout, "the last pages did not arrive");
    if (state_ != TargetState::Receiving) return ended();
    return {};
}

transport::Result<void> Incoming::receive_state(transport::Channel& c) {
    rehearse();
    guest_.begin_memory();
    // The control channel is quiet during pre-copy, however long that takes.
    auto f = expect(c, Record::Machine, transport::Patience::Idle);
    if (!f) return tl::unexpected(f.error());
    auto machine = decode_machine(*f);
    if (!machine) return tl::unexpected(machine.error());
    std::vector<DeviceState> devices;
    transport::Frame next;
    for (;;) {
        auto n = receive(c);
        if (!n) return tl::unexpected(n.error());
        next = std::move(*n);
        if (!is(next, Record::Device)) break;
        auto d = decode_device(next.payload);
        if (!d) return tl::unexpected(d.error());
        if (devices.size() == kMaxDevices) return refuse("too many devices");
        devices.push_back(std::move(*d));
    }
    if (!is(next, Record::StateComplete)) return tl::unexpected(unexpected_record(next));
    const auto end = decode_complete(next.payload);
    if (!end) return tl::unexpected(end.error());
    if (end->devices != devices.size()) return refuse("a device's state is missing");
    if (end->final_round >= kMaxRounds) return refuse("too many rounds");
    {
        std::lock_guard lock(mutex_);
        final_round_ = end->final_round;
    }
    // While the last pages are still on their way.
    if (auto r = load(*machine, devices); !r) return r;
    if (auto r = wait_round(end->final_round); !r) return r;
    guest_.memory().came_with(written_);
    if (event(TargetEvent::StateLoaded) != TargetAction::SendReady) return ended();
    if (auto r = tell(Record::Ready); !r) return r;
    if (auto r = wait_for_commit(c); !r) return r;
    return commit(c);
}

// The guest stands still while its state is loaded and its start claimed: what that takes is paged in, linked and synced
// before, by loading the state that this machine has anyway. Should that fail, the real one will say why.
void Incoming::rehearse() {
    std::vector<DeviceState> devices;
    const auto saved = on_guest(guest_, [&] {
        for (vmm::Device* d : guest_.devices()) {
            d->quiesce();
            devices.push_back({d->name(), d->save()});
        }
        return guest_.machine().save();
    });
    if (!saved) return;
    for (auto& d : devices)
        if (auto decoded = decode_device(encode_device(d))) d = std::move(*decoded);
    if (const auto machine = decode_machine(encode_machine(*saved))) (void)load(*machine, devices);
    session_.rehearse();
}

// Everything a start could fail on is tried here, while the source can still go on.
transport::Result<void> Incoming::load(const vmm::MachineState& machine,
                                       const std::vector<DeviceState>& devices) {
    auto loaded = on_guest(guest_, [&]() -> vmm::Result<void> {
        std::vector<const vmm::Device*> seen;
        for (const auto& d : devices) {
            const auto i = std::find_if(guest_.devices().begin(), guest_.devices().end(),
                                        [&](const vmm::Device* x) { return x->name() == d.name; });
            if (i == guest_.devices().end() || std::find(seen.begin(), seen.end(), *i) != seen.end())
                return vmm::fail("no device " + d.name + " here");
            seen.push_back(*i);
            (*i)->quiesce();
            if (auto r = (*i)->load(d.state); !r) return r;
        }
        if (seen.size() != guest_.devices().size()) return vmm::fail("devices don't match this guest's");
        return guest_.machine().load(machine);
    });
    if (!loaded) return tl::unexpected(remote(loaded.error()));
    return {};
}

// From here on the link does not matter: the record decides, and answers for this process if it dies.
transport::Result<void> Incoming::commit(transport::Channel& c) {
    if (event(TargetEvent::CommitCame) != TargetAction::Claim) return ended();
    const auto claimed = session_.apply(SessionEvent::Claimed);
    if (!claimed || *claimed != SessionAnswer::Granted) {
        // A claim that moved the record but could not be made durable is taken back.
        if (!claimed) (void)session_.apply(SessionEvent::Withdrawn);
        (void)event(TargetEvent::Denied);
        const vmm::Error why =
            claimed ? vmm::Error{"the source's host was told that the guest won't start here", ""}
                    : claimed.error();
        (void)tell(Record::Abort, encode_abort({why.what, why.remedy}));
        report(TargetState::NeverStart, why);
        return {};
    }
    (void)event(TargetEvent::Granted);
    const auto runs = on_guest(guest_, [this] {
        give(guest_, std::exchange(late_, {}));  // in its queues when its devices go on
        return guest_.start_incoming();
    });
    if (!runs) {
        (void)event(TargetEvent::CannotRun);
        (void)session_.apply(SessionEvent::Withdrawn);
        (void)tell(Record::Abort, encode_abort({runs.error().what, runs.error().remedy}));
        report(TargetState::NeverStart, runs.error());
        return {};
    }
    (void)event(TargetEvent::Runs);
    (void)tell(Record::Started);  // if it is lost the source asks
    {
        // Beside it: a sync may take long, and there are packets that wait for their answer. Not later: a source that could
        // not read Started asks at once.
        const std::jthread record([this] {
            if (auto r = session_.apply(SessionEvent::Ran); !r)
                spdlog::error("{}: runs, but its session record can't say so: {}", guest_.name(),
                              r.error().what);
        });
        take_more_late_frames(c);
    }
    report(TargetState::Started, {});
    return {};
}

transport::Result<void> Incoming::wait_for_commit(transport::Channel& c) {
    for (;;) {
        const auto f = receive(c);
        if (!f) return tl::unexpected(f.error());
        if (is(*f, Record::Commit)) return {};
        if (!is(*f, Record::LateFrame)) return tl::unexpected(unexpected_record(*f));
        if (auto r = take_late(*f); !r) return r;
    }
}

transport::Result<void> Incoming::take_late(const transport::Frame& f) {
    auto late = decode_late(f.payload);
    if (!late) return tl::unexpected(late.error());
    late_bytes_ += late->frame.size();
    if (++late_frames_ > kMaxLateFrames || late_bytes_ > kMaxLateBytes) return refuse("too many late frames");
    late_.push_back(std::move(*late));
    return {};
}

// Until the source hangs up. Nothing that is wrong here can harm the move any more: it ends the packets, as a wire would.
void Incoming::take_more_late_frames(transport::Channel& c) {
    const auto until = std::chrono::steady_clock::now() + kLateFrames;
    while (std::chrono::steady_clock::now() < until) {
        const auto f = receive(c);
        if (!f || !is(*f, Record::LateFrame)) return;
        if (auto r = take_late(*f); !r) return spdlog::warn("{}: {}", guest_.name(), r.error().what);
        // Not waited for: whoever ends this object may be that thread.
        boost::asio::post(guest_.io(), [g = &guest_, late = std::exchange(late_, {})] { give(*g, late); });
    }
}

}  // namespace proa::migrate
