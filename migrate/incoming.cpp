#include "migrate/incoming.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "migrate/on_guest.hpp"
#include "migrate/page_batch.hpp"

namespace proa::migrate {
namespace {

constexpr std::uint32_t kMaxRounds = 10'000;

tl::unexpected<transport::Error> refuse(const std::string& why) {
    return transport::fail(transport::ErrorKind::Protocol, "peer's stream refused: " + why);
}
transport::Error remote(const vmm::Error& e) {
    return {transport::ErrorKind::Refused, e.what, e.remedy};
}

template <class T>
bool take(const std::vector<std::uint8_t>& b, T& t) {
    if (b.size() != sizeof(T)) return false;
    std::memcpy(&t, b.data(), sizeof(T));
    return true;
}

}  // namespace

vmm::Result<std::unique_ptr<Incoming>> Incoming::listen(vmm::GuestProcess& guest, const Token& token,
                                                        const transport::ChannelOptions& options, Done done) {
    std::unique_ptr<Incoming> in(new Incoming(guest, token, std::move(done)));
    auto l = transport::Listener::listen(
        "", 0, options, [i = in.get()](std::unique_ptr<transport::Channel> c) { i->serve(std::move(c)); },
        [](const transport::Error& e) { spdlog::warn("migration channel refused: {}", e.what); });
    if (!l) return vmm::fail(l.error().what, l.error().remedy);
    in->listener_ = std::move(*l);
    return in;
}

Incoming::~Incoming() {
    {
        std::lock_guard lock(mutex_);
        for (transport::Channel* c : live_) c->cancel();
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

TargetState Incoming::asked() {
    event(TargetEvent::Asked);
    return state_;
}

void Incoming::failed(const transport::Error& e) {
    const TargetAction a = event(TargetEvent::Failed);
    std::unique_lock lock(mutex_);
    if (a != TargetAction::Discard || std::exchange(reported_, true)) return;
    if (control_ != nullptr)
        (void)send(
            *control_, Record::Abort,
            {reinterpret_cast<const std::uint8_t*>(e.what.data()), std::min<std::size_t>(e.what.size(), 1024)});
    for (transport::Channel* c : live_) c->cancel();
    boost::asio::post(guest_.io(), [done = done_, e] { done({TargetState::NeverStart, {e.what, e.remedy}}); });
}

transport::Result<HelloRecord> Incoming::greet(transport::Channel& c) {
    auto b = expect(c, Record::Hello);
    if (!b) return tl::unexpected(b.error());
    HelloRecord h;
    if (!take(*b, h)) return refuse("malformed hello");
    if (h.version != kStreamVersion)
        return refuse("stream version " + std::to_string(h.version) + ", this host speaks " +
                      std::to_string(kStreamVersion));
    if (!same_token(h.token, token_)) return refuse("wrong token");
    if (h.channels == 0 || h.channels > kMaxChannels || h.channel > h.channels)
        return refuse("channel number out of range");
    {
        std::lock_guard lock(mutex_);
        if ((channels_ != 0 && channels_ != h.channels) || (joined_ >> h.channel & 1) != 0)
            return refuse("channel opened twice");
        channels_ = h.channels;
        joined_ |= 1u << h.channel;
    }
    if (auto r = send(c, Record::Welcome); !r) return tl::unexpected(r.error());
    return h;
}

void Incoming::serve(std::unique_ptr<transport::Channel> c) {
    auto h = greet(*c);
    if (!h) {  // a stranger: no reason to fail the migration
        spdlog::warn("{}: {}", c->peer(), h.error().what);
        return;
    }
    {
        std::lock_guard lock(mutex_);
        live_.push_back(c.get());
        if (h->channel == 0) control_ = c.get();
    }
    if (h->channel == 0)
        serve_control(*c);
    else
        serve_data(*c);
    std::lock_guard lock(mutex_);
    live_.erase(std::find(live_.begin(), live_.end(), c.get()));
    if (control_ == c.get()) control_ = nullptr;
}

void Incoming::serve_data(transport::Channel& c) {
    const auto ram = guest_.memory().bytes();
    for (;;) {
        auto f = c.receive();
        {
            std::lock_guard lock(mutex_);
            if (state_ != TargetState::Receiving) return;
        }
        if (!f) return failed(f.error());
        if (f->type == static_cast<std::uint16_t>(Record::Pages)) {
            if (auto r = apply_batch(f->payload, ram); !r) return failed(r.error());
        } else if (std::uint32_t round = 0;
                   f->type == static_cast<std::uint16_t>(Record::RoundEnd) && take(f->payload, round)) {
            if (round >= kMaxRounds) return failed(refuse("too many rounds").value());
            round_ended(round);
        } else {
            return failed(unexpected_record(*f));
        }
    }
}

void Incoming::round_ended(std::uint32_t round) {
    std::lock_guard lock(mutex_);
    if (ended_.size() <= round) ended_.resize(round + 1);
    if (++ended_[round] == channels_ && control_ != nullptr)
        (void)send_value(*control_, Record::RoundAck, round);
    changed_.notify_all();
}

transport::Result<void> Incoming::wait_round(std::uint32_t round) {
    std::unique_lock lock(mutex_);
    const bool ok = changed_.wait_for(lock, std::chrono::seconds(30), [&] {
        return state_ != TargetState::Receiving || (ended_.size() > round && ended_[round] == channels_);
    });
    if (!ok || state_ != TargetState::Receiving)
        return transport::fail(transport::ErrorKind::Timeout, "the last pages did not arrive");
    return {};
}

transport::Result<void> Incoming::load_and_commit(transport::Channel& c) {
    // Idle until the source stops its guest: the control channel is quiet during pre-copy, however long that takes.
    transport::Result<transport::Frame> f = transport::fail(transport::ErrorKind::Timeout, "");
    while (!f && f.error().kind == transport::ErrorKind::Timeout) {
        f = c.receive();
        std::lock_guard lock(mutex_);
        if (state_ != TargetState::Receiving)
            return transport::fail(transport::ErrorKind::Closed, "the migration ended");
    }
    if (!f) return tl::unexpected(f.error());
    if (f->type != static_cast<std::uint16_t>(Record::Machine)) return tl::unexpected(unexpected_record(*f));
    auto machine = decode_machine(f->payload);
    if (!machine) return tl::unexpected(machine.error());
    std::vector<DeviceState> devices;
    for (;;) {
        f = c.receive();
        if (!f) return tl::unexpected(f.error());
        if (f->type != static_cast<std::uint16_t>(Record::Device)) break;
        auto d = decode_device(f->payload);
        if (!d) return tl::unexpected(d.error());
        if (devices.size() == kMaxDevices) return refuse("too many devices");
        devices.push_back(std::move(*d));
    }
    std::uint32_t last[2];
    if (f->type != static_cast<std::uint16_t>(Record::StateComplete) || !take(f->payload, last))
        return tl::unexpected(unexpected_record(*f));
    if (last[1] != devices.size() || devices.size() != guest_.devices().size())
        return refuse("devices don't match this guest's");
    if (auto r = wait_round(last[0]); !r) return r;

    auto loaded = on_guest(guest_, [&]() -> vmm::Result<void> {
        for (const auto& d : devices) {
            const auto i = std::find_if(guest_.devices().begin(), guest_.devices().end(),
                                        [&](const vmm::Device* x) { return x->name() == d.name; });
            if (i == guest_.devices().end()) return vmm::fail("no device " + d.name + " here");
            (*i)->quiesce();
            if (auto r = (*i)->load(d.state); !r) return r;
        }
        return guest_.machine().load(*machine);
    });
    if (!loaded) return tl::unexpected(remote(loaded.error()));
    if (event(TargetEvent::StateLoaded) != TargetAction::SendReady)
        return transport::fail(transport::ErrorKind::Closed, "the migration ended");
    if (auto r = send(c, Record::Ready); !r) return r;
    if (auto r = expect(c, Record::Commit); !r) return tl::unexpected(r.error());
    if (event(TargetEvent::CommitCame) != TargetAction::StartAndTell)
        return transport::fail(transport::ErrorKind::Closed, "the migration ended");
    if (before_start_) before_start_();
    auto started = on_guest(guest_, [this] { return guest_.start_incoming(); });
    if (!started)
        spdlog::critical("{}: committed, but cannot run: {}", guest_.config().name, started.error().what);
    (void)send(c, Record::Started);  // if it is lost the source asks
    boost::asio::post(guest_.io(), [done = done_] { done({TargetState::Started, {}}); });
    return {};
}

void Incoming::serve_control(transport::Channel& c) {
    if (auto r = load_and_commit(c); !r) failed(r.error());
}

}  // namespace proa::migrate
