#include "migrate/guest_service.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "migrate/on_guest.hpp"

namespace proa::migrate {
namespace {

using vmm::Reply;

// A proad that dies between starting a receiver and telling it what to receive.
constexpr std::chrono::seconds kOrphan{60};
// After an arrival: ending the engine's threads and giving its memory back can wait until the guest has answered its peers.
constexpr std::chrono::milliseconds kTidyLater{500};

const char* code_of(const Outgoing::Outcome& o) {
    if (o.cancelled) return "cancelled";
    return o.state == SourceState::InDoubt ? "in-doubt" : "failed";
}

}  // namespace

GuestService::GuestService(vmm::GuestProcess& guest, std::string sessions)
    : guest_(guest), sessions_(std::move(sessions)), orphan_(guest.io()), tidy_(guest.io()) {
    auto& c = guest.commands();
    c.add("migrate-describe", [this](const Json&, const Reply& r) { describe(r); });
    c.add("migrate-out", [this](const Json& a, const Reply& r) { out(a, r); });
    c.add("migrate-in", [this](const Json& a, const Reply& r) { in(a, r); });
    c.add("migrate-cancel", [this](const Json&, const Reply& r) {
        if (!outgoing_) return r.fail("not-found", {"no migration of " + guest_.name() + " is under way", ""});
        outgoing_->cancel();
        r.ok();
    });
    c.add("migrate-resolve", [this](const Json&, const Reply& r) { resolve(r); });
    // A courtesy of proad, which has promised that the guest won't start: the record would refuse it anyway.
    c.add("migrate-discard", [this](const Json&, const Reply& r) {
        if (incoming_) incoming_->discard("the source's host was told that the guest won't start here");
        r.ok();
    });
    if (guest.options().incoming) {
        orphan_.expires_after(kOrphan);
        orphan_.async_wait([this, gone = gone_](const boost::system::error_code& e) {
            if (e || *gone || incoming_ || guest_.state() != vmm::GuestState::Incoming) return;
            spdlog::warn("{}: nobody said what to wait for", guest_.name());
            guest_.shut_down(1);
        });
    }
    guest.when_doubt_ends([this] {
        if (outgoing_) outgoing_->resume();
        outgoing_.reset();
    });
}

GuestService::~GuestService() {
    // Only who has threads needs the guest's thread to be there still: a start that failed has neither.
    if (outgoing_ || incoming_) on_guest(guest_, [this] { return *gone_ = true; });
    *gone_ = true;
    outgoing_.reset();
    incoming_.reset();
}

vmm::Result<Json> describe(vmm::GuestProcess& guest) {
    auto p = guest.machine().policy();
    if (!p) return tl::unexpected(p.error());
    Json disks = Json::array(), bridges = Json::array();
    for (const auto& d : guest.config().disks) disks.push_back({{"path", d.path}, {"read_only", d.read_only}});
    for (const auto& v : guest.config().vifs) bridges.push_back(v.bridge);
    return Json{{"name", guest.name()},
                {"config", guest.config().text},
                {"memory_mib", guest.config().memory_mib},
                {"vcpus", guest.config().vcpus},
                {"policy", to_hex(encode_policy(*p))},
                {"disks", disks},
                {"bridges", bridges},
                {"files", Json::array({guest.config().kernel, guest.config().ramdisk})},
                {"stream_version", kStreamVersion}};
}

// Why it can't be moved now, if it can't.
std::optional<vmm::Error> GuestService::refusal() const {
    if (guest_.occupied()) return guest_.occupied();
    if (guest_.state() == vmm::GuestState::Running) return guest_.measured();
    return vmm::Error{guest_.name() + " is " + vmm::name_of(guest_.state()) + ", not running",
                      guest_.state() == vmm::GuestState::Paused ? "proa unpause it first" : ""};
}

void GuestService::describe(const Reply& r) {
    // Refused here, before the peer prepares anything.
    if (const auto no = refusal()) return r.fail("refused", *no);
    auto d = migrate::describe(guest_);
    if (!d) return r.fail("failed", d.error());
    r.ok(std::move(*d));
}

void GuestService::out(const Json& a, const Reply& r) {
    if (const auto no = refusal()) return r.fail("refused", *no);
    if (outgoing_)
        return r.fail("refused", {guest_.name() + " is moving already", "proa migrate --cancel it first"});
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
    o.ask = [host = o.host, port = a.value("peer_port", std::uint16_t{4650}), channel = o.channel,
             token = o.token] { return ask_outcome(host, port, channel, token); };
    r.on_disconnect([this, gone = gone_] {
        if (!*gone && outgoing_) outgoing_->cancel();
    });
    // From here on, though it takes the dirty log only when the peer has answered.
    guest_.occupy("moving", "proa migrate --cancel it first");
    outgoing_ = std::make_unique<Outgoing>(
        guest_, std::move(o), [r](const Json& j) { r.progress(j); },
        [this, r, gone = gone_](const Outgoing::Outcome& done) {
            if (!*gone) ended(done, r);
        });
}

void GuestService::ended(const Outgoing::Outcome& done, const Reply& r) {
    if (done.state == SourceState::Done) {
        spdlog::info("{}: moved; downtime {:.0f} ms", guest_.name(), done.stats.downtime.all());
        r.ok(to_json(done.stats));
        outgoing_.reset();
        guest_.io().post([g = &guest_] { g->shut_down(0); });
        return;
    }
    spdlog::warn("{}: migration ended: {}", guest_.name(), done.error.what);
    guest_.leave();  // in doubt: its state keeps it from everything else
    r.fail(code_of(done), done.error);
    if (done.state != SourceState::InDoubt) outgoing_.reset();
}

void GuestService::resolve(const Reply& r) {
    if (!outgoing_ || guest_.state() != vmm::GuestState::InDoubt)
        return r.fail("refused", {guest_.name() + " is not in doubt", ""});
    outgoing_->resolve([this, r, gone = gone_](SourceState s) {
        if (*gone) return;
        if (s == SourceState::InDoubt)
            return r.fail(
                "failed",
                {"the destination still can't tell whether the guest runs there",
                 "try again when it is reachable; if it is dead for certain: proa unpause " + guest_.name()});
        const bool here = s == SourceState::Resumed;
        r.ok({{"runs_here", here}});
        if (!here) guest_.io().post([g = &guest_] { g->shut_down(0); });
        guest_.io().post([this, gone] {  // not from inside its own callback
            if (!*gone) outgoing_.reset();
        });
    });
}

void GuestService::in(const Json& a, const Reply& r) {
    if (guest_.state() != vmm::GuestState::Incoming || incoming_)
        return r.fail("refused", {"this guest doesn't wait for a migration", ""});
    IncomingOptions o;
    if (!from_hex(a.at("token"), o.token)) return r.fail("invalid", {"malformed token", ""});
    o.sessions = sessions_;
    o.channel = channel_options(a);
    o.address = a.value("listen", "");
    auto i = Incoming::listen(guest_, std::move(o), [this, gone = gone_](const Incoming::Outcome& done) {
        if (*gone) return;
        if (done.state == TargetState::Started) {
            spdlog::info("{}: arrived and runs", guest_.name());
            tidy_.expires_after(kTidyLater);
            tidy_.async_wait([this, gone](const boost::system::error_code& e) {
                if (!e && !*gone) incoming_.reset();
            });
            return;
        }
        spdlog::warn("{}: incoming migration ended: {}", guest_.name(), done.error.what);
        guest_.shut_down(1);
    });
    if (!i) return r.fail("failed", i.error());
    incoming_ = std::move(*i);
    r.ok({{"port", incoming_->port()}});
}

}  // namespace proa::migrate
