#include "migrate/guest_service.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <thread>

namespace proa::migrate {
namespace {

using vmm::Json;
using vmm::Reply;

std::string hex_of(const void* p, std::size_t n) {
    std::string s;
    for (std::size_t i = 0; i < n; ++i) {
        const auto b = static_cast<const std::uint8_t*>(p)[i];
        s += "0123456789abcdef"[b >> 4];
        s += "0123456789abcdef"[b & 15];
    }
    return s;
}

const char* code_of(const Outgoing::Outcome& o) {
    if (o.cancelled) return "cancelled";
    return o.state == SourceState::InDoubt ? "in-doubt" : "failed";
}

}  // namespace

Json to_json(const MigrationStats& s) {
    Json rounds = Json::array();
    for (const auto& r : s.rounds)
        rounds.push_back({{"pages", r.pages},
                          {"zero", r.zero},
                          {"wire_bytes", r.wire_bytes},
                          {"ms", r.seconds * 1e3},
                          {"dirty_after", r.dirty_after}});
    return {{"rounds", rounds},       {"wire_bytes", s.wire_bytes},
            {"total_ms", s.total_ms}, {"downtime_ms", s.downtime_ms},
            {"throttle", s.throttle}, {"note", s.note}};
}

transport::ChannelOptions channel_options(const Json& a) {
    transport::ChannelOptions o;
    if (!a.value("plaintext", false)) o.tls = transport::Credentials::in(a.value("keys", "/etc/proa/keys"));
    return o;
}

transport::Result<Json> ask_peer(const std::string& host, std::uint16_t port,
                                 const transport::ChannelOptions& o, const Json& request) {
    auto c = transport::dial(host, port, o);
    if (!c) return tl::unexpected(c.error());
    const std::string text = request.dump();
    if (auto r =
            send(**c, Record::PeerRequest, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        !r)
        return tl::unexpected(r.error());
    auto b = expect(**c, Record::PeerAnswer);
    if (!b) return tl::unexpected(b.error());
    Json j = Json::parse(b->begin(), b->end(), nullptr, false);
    if (!j.is_object())
        return transport::fail(transport::ErrorKind::Protocol,
                               host + " answered with something that isn't JSON");
    return j;
}

GuestService::GuestService(vmm::GuestProcess& guest, std::string sessions)
    : guest_(guest), sessions_(std::move(sessions)) {
    auto& c = guest.commands();
    c.add("migrate-describe", [this](const Json&, const Reply& r) { describe(r); });
    c.add("migrate-out", [this](const Json& a, const Reply& r) { out(a, r); });
    c.add("migrate-in", [this](const Json& a, const Reply& r) { in(a, r); });
    c.add("migrate-cancel", [this](const Json&, const Reply& r) {
        if (!outgoing_)
            return r.fail("not-found", {"no migration of " + guest_.config().name + " is under way", ""});
        outgoing_->cancel();
        r.ok();
    });
    c.add("migrate-resolve", [this](const Json&, const Reply& r) {
        if (!outgoing_) return r.fail("not-found", {guest_.config().name + " is not in doubt", ""});
        if (!outgoing_->resolve())
            return r.fail("failed", {"the destination still can't be asked", "try again when it is reachable"});
        const bool here = guest_.state() == vmm::GuestState::Running;
        r.ok({{"runs_here", here}});
        if (!here) guest_.io().post([this] { guest_.shut_down(0); });
        outgoing_.reset();
    });
    c.add("migrate-asked", [this](const Json&, const Reply& r) {
        if (!incoming_) return r.ok({{"outcome", guest_.options().incoming ? "started" : "never"}});
        r.ok({{"outcome", incoming_->asked() == TargetState::Started ? "started" : "never"}});
        if (guest_.state() == vmm::GuestState::Incoming) guest_.io().post([this] { guest_.shut_down(1); });
    });
}

GuestService::~GuestService() = default;

void GuestService::describe(const Reply& r) {
    auto p = guest_.machine().policy();
    if (!p) return r.fail("failed", p.error());
    Json disks = Json::array(), bridges = Json::array();
    for (const auto& d : guest_.config().disks) disks.push_back({{"path", d.path}, {"read_only", d.read_only}});
    for (const auto& v : guest_.config().vifs) bridges.push_back(v.bridge);
    r.ok({{"name", guest_.config().name},
          {"config", guest_.config().text},
          {"memory_mib", guest_.config().memory_mib},
          {"vcpus", guest_.config().vcpus},
          {"policy", hex_of(&*p, sizeof(*p))},
          {"disks", disks},
          {"bridges", bridges},
          {"stream_version", kStreamVersion}});
}

void GuestService::out(const Json& a, const Reply& r) {
    if (guest_.state() != vmm::GuestState::Running)
        return r.fail("refused",
                      {guest_.config().name + " is " + vmm::name_of(guest_.state()) + ", not running",
                       "proa unpause it first"});
    OutgoingOptions o;
    o.host = a.at("host");
    o.port = a.at("port");
    if (!from_hex(a.at("token"), o.token)) return r.fail("invalid", {"malformed token", ""});
    o.channel = channel_options(a);
    o.data_channels = std::clamp(a.value("channels", 2u), 2u, kMaxChannels);
    o.compress = a.value("compress", static_cast<int>(transport::Compressor::kAuto));
    o.bandwidth = a.value("bandwidth", std::uint64_t{0});
    o.log = a.value("dirty_log", "hardware") == "write-protect" ? abi::DirtyLogMode::WriteProtect
                                                                : abi::DirtyLogMode::Hardware;
    o.policy.downtime = Seconds(a.value("downtime_ms", 300.0) / 1e3);
    o.policy.auto_converge = a.value("auto_converge", false);
    o.policy.give_up = a.value("no_converge", "stop") == "giveup";
    const Json question{{"cmd", "outcome"}, {"session", a.at("token")}};
    o.ask = [host = o.host, port = a.value("peer_port", std::uint16_t{4650}), channel = o.channel,
             question]() -> std::optional<SourceEvent> {
        auto j = ask_peer(host, port, channel, question);
        if (!j || !j->contains("outcome")) return {};
        return (*j)["outcome"] == "started" ? SourceEvent::AnswerStarted : SourceEvent::AnswerNever;
    };
    r.on_disconnect([this] {
        if (outgoing_) outgoing_->cancel();
    });
    outgoing_ = std::make_unique<Outgoing>(
        guest_, std::move(o), [r](const Json& j) { r.progress(j); },
        [this, r](const Outgoing::Outcome& done) {
            if (done.state == SourceState::Done) {
                Json j = to_json(done.stats);
                spdlog::info("{}: moved; downtime {:.0f} ms", guest_.config().name, done.stats.downtime_ms);
                r.ok(std::move(j));
                outgoing_.reset();
                guest_.io().post([this] { guest_.shut_down(0); });
                return;
            }
            spdlog::warn("{}: migration ended: {}", guest_.config().name, done.error.what);
            r.fail(code_of(done), done.error);
            if (done.state != SourceState::InDoubt) outgoing_.reset();
        });
}

void GuestService::in(const Json& a, const Reply& r) {
    if (guest_.state() != vmm::GuestState::Incoming || incoming_)
        return r.fail("refused", {"this guest doesn't wait for a migration", ""});
    Token token;
    if (!from_hex(a.at("token"), token)) return r.fail("invalid", {"malformed token", ""});
    const std::string mark = sessions_ + "/" + a.at("token").get<std::string>();
    auto i = Incoming::listen(guest_, token, channel_options(a), [this](const Incoming::Outcome& o) {
        if (o.state == TargetState::Started) {
            spdlog::info("{}: arrived and runs", guest_.config().name);
            return;
        }
        spdlog::warn("{}: incoming migration ended: {}", guest_.config().name, o.error.what);
        guest_.shut_down(1);
    });
    if (!i) return r.fail("failed", i.error());
    incoming_ = std::move(*i);
    incoming_->before_start([mark] { std::ofstream(mark) << "started\n"; });
    r.ok({{"port", incoming_->port()}});
}

}  // namespace proa::migrate
