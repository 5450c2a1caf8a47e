#include "remus/guest_service.hpp"

#include <spdlog/spdlog.h>

#include <thread>

#include "migrate/guest_service.hpp"
#include "migrate/on_guest.hpp"
#include "remus/etcd_witness.hpp"

namespace proa::remus {
namespace {

using migrate::on_guest;
using vmm::Reply;
using Shared = std::shared_ptr<std::optional<Reply>>;

constexpr std::chrono::seconds kAgain{2};                  // between two tries of auto_reprotect
constexpr std::chrono::milliseconds kWitnessTimeout{700};  // several fit into a lease

bool final_state(PrimaryState s) {
    return s == PrimaryState::Alone || s == PrimaryState::Unprotected || s == PrimaryState::Superseded ||
           s == PrimaryState::Left;
}

std::chrono::milliseconds milliseconds(const Json& a, const char* key, double otherwise) {
    return std::chrono::milliseconds(static_cast<long>(a.value(key, otherwise)));
}

}  // namespace

GuestService::GuestService(vmm::GuestProcess& guest)
    : guest_(guest), session_(migrate::to_hex(migrate::random_token())), again_(guest.io()) {
    auto& c = guest.commands();
    c.add("protect-out", [this](const Json& a, const Reply& r) { protect_out(a, r); });
    c.add("protect-in", [this](const Json& a, const Reply& r) { protect_in(a, r); });
    c.add("protect-status", [this](const Json&, const Reply& r) { r.ok(status()); });
    c.add("unprotect", [this](const Json&, const Reply& r) { unprotect(r); });
    c.add("failover", [this](const Json&, const Reply& r) { failover(r); });
    guest.when_fenced([this] {
        if (primary_) primary_->fenced();
    });
    guest.describe_more(
        [this](Json& j) { j["protection"] = primary_ || backup_ ? status().at("state") : Json(""); });
}

GuestService::~GuestService() {
    const bool threads = primary_ || backup_;
    if (threads) on_guest(guest_, [this] { return *gone_ = true; });
    *gone_ = true;
    const bool mine = holds_key_ || primary_;
    const auto before = primary_ ? primary_->state() : PrimaryState::Unprotected;
    primary_.reset();
    backup_.reset();
    // A guest that has ended needs nobody's permission to run any more. (One that another host runs is not ours to release:
    // the witness compares sessions.)
    if (mine && witness_ && before != PrimaryState::Superseded && before != PrimaryState::Left)
        (void)witness_->release(guest_.name(), session_);
}

bool GuestService::over() const {
    return !primary_ || final_state(primary_->state());
}

void GuestService::answer(const vmm::Result<void>& r, const char* code) {
    if (!reply_ || !*reply_) return;
    const Reply to = **reply_;
    reply_->reset();
    if (r)
        to.ok();
    else
        to.fail(code, r.error());
}

void GuestService::protect_out(const Json& a, const Reply& r) {
    if (guest_.state() != vmm::GuestState::Running)
        return r.fail("refused", {guest_.name() + " is " + vmm::name_of(guest_.state()) + ", not running",
                                  guest_.state() == vmm::GuestState::Paused ? "proa unpause it first" : ""});
    if (guest_.occupied()) return r.fail("refused", *guest_.occupied());
    if (asking_ || !over())
        return r.fail("refused", {guest_.name() + " is protected already", "proa protect --status"});
    if (const auto no = guest_.measured()) return r.fail("refused", *no);
    if (guest_.machine().checkpoints() == nullptr || guest_.output() == nullptr)
        return r.fail("refused", {"this machine can't make checkpoints", ""});
    const bool again = again_.cancel() != 0;
    auto reply = std::make_shared<std::optional<Reply>>(r);
    // Ctrl-C of the command before the guest is protected: it stays as it was.
    r.on_disconnect([this, gone = gone_, reply] {
        if (*gone || !*reply) return;
        reply->reset();
        if (primary_) primary_->stop();
    });
    ask_for_standby(a, reply, again);
}

// The peer's proad prepares a standby; asked on a thread, for TLS, look-ups and its pre-flight may take seconds.
void GuestService::ask_for_standby(const Json& a, Shared reply, bool resume) {
    const auto fail = [this, reply, resume, before = options_](const char* code, const vmm::Error& e) {
        asking_ = false;
        guest_.leave();
        if (*reply) (*reply)->fail(unprotecting_ ? "cancelled" : code, e);
        reply->reset();
        if (unprotecting_) {
            unprotecting_->ok();
            return unprotecting_.reset();
        }
        options_ = before;
        if (resume) protect_again();
    };
    auto description = migrate::describe(guest_);
    if (!description) return fail("failed", description.error());
    auto witness = make_witness(a.at("witness"), kWitnessTimeout);
    if (!witness) return fail("invalid", witness.error());
    witness_ = std::move(*witness);
    Json disks = Json::array();
    for (const vmm::Disk* d : guest_.disks()) {
        std::string path = d->path();
        bool replicated = !a.contains("disks");
        for (const auto& w : a.value("disks", Json::array()))
            if (w.at("name") == d->name()) {
                path = w.value("path", path);
                replicated = true;
            }
        if (replicated) disks.push_back({{"name", d->name()}, {"path", path}, {"size", d->size()}});
    }
    if (disks.size() != guest_.disks().size())
        return fail("refused", {"every writable disk of a protected guest must be replicated",
                                "name all of them, or none (all, to the same path)"});
    asking_ = true;
    guest_.occupy("being protected", "proa unprotect it first");
    options_ = a;
    const std::string token = migrate::to_hex(migrate::random_token());
    std::thread([=, this, gone = gone_, description = *description] {
        auto answer = migrate::ask_peer(a.at("host"), a.value("peer_port", std::uint16_t{4650}),
                                        migrate::channel_options(a),
                                        {{"cmd", "standby"},
                                         {"guest", description},
                                         {"session", token},
                                         {"disks", disks},
                                         {"witness", a.at("witness")},
                                         {"options", a}});
        boost::asio::post(guest_.io(), [=, this] {
            if (*gone) return;
            if (!answer) return fail("failed", {answer.error().what, answer.error().remedy});
            const auto text = [&](const char* key) {
                const auto i = answer->find(key);
                return i != answer->end() && i->is_string() ? i->get<std::string>() : std::string();
            };
            const auto port = answer->find("port");
            if (answer->value("ok", Json()) != Json(true) || port == answer->end() ||
                !port->is_number_unsigned() || *port > 65535)
                return fail("refused", {a.at("host").get<std::string>() + ": " +
                                            (text("what").empty() ? "refused" : text("what")),
                                        text("remedy")});
            asking_ = false;
            start_primary(a, token, port->get<std::uint16_t>(), reply);
        });
    }).detach();
}

void GuestService::start_primary(const Json& a, const std::string& token, std::uint16_t port, Shared reply) {
    PrimaryOptions o;
    o.host = a.at("host");
    o.port = port;
    (void)migrate::from_hex(token, o.token);
    o.channel = migrate::channel_options(a);
    o.channel.io_timeout = milliseconds(a, "ack_timeout_ms", 5000);
    o.this_host = a.at("this_host");
    o.session = session_;
    for (const vmm::Disk* d : guest_.disks()) o.disks.push_back(d->name());
    o.pacing.adaptive = a.value("adaptive", true);
    o.pacing.interval = Seconds(a.value("interval_ms", 25.0) / 1e3);
    o.pacing.max_lag = Seconds(a.value("max_lag_ms", 200.0) / 1e3);
    o.pacing.max_overhead = a.value("max_overhead", 10.0) / 100;
    o.lease.ttl = milliseconds(a, "ttl_ms", 3000);
    o.buffer_network = !a.value("no_network_buffer", false);
    reply_ = reply;
    primary_ =
        std::make_unique<Primary>(guest_, witness_, std::move(o),
                                  Primary::Hooks{[this, gone = gone_](PrimaryState s, const vmm::Error& why) {
                                                     if (!*gone) primary_changed(s, why);
                                                 },
                                                 [this, gone = gone_](const Json& p) {
                                                     if (!*gone && reply_ && *reply_) (*reply_)->progress(p);
                                                 }});
    // Whoever asked has left meanwhile, or somebody wants the opposite.
    if (unprotecting_ || (!*reply && !a.value("again", false))) primary_->stop();
}

void GuestService::primary_changed(PrimaryState s, const vmm::Error& why) {
    if (s == PrimaryState::Protected) {
        guest_.occupy("protected", "proa unprotect it first, or proa failover it");
        holds_key_ = true;
        return answer({});
    }
    last_status_ = status();
    guest_.leave();
    const bool here = s == PrimaryState::Alone || s == PrimaryState::Unprotected;
    holds_key_ = s == PrimaryState::Alone;
    answer(vmm::fail(why.what.empty() ? "protection has ended" : why.what, why.remedy),
           unprotecting_ ? "cancelled" : "failed");
    if (unprotecting_)
        here ? unprotecting_->ok() : unprotecting_->fail("failed", {"the guest runs elsewhere now", ""});
    if (handing_over_) {
        if (s == PrimaryState::Left || s == PrimaryState::Superseded)
            handing_over_->ok();
        else
            handing_over_->fail("failed", why);
    }
    const bool wanted = unprotecting_ || handing_over_;
    unprotecting_.reset();
    handing_over_.reset();
    guest_.io().post([this, gone = gone_] {  // not from inside its own callback
        if (!*gone) primary_.reset();
    });
    if (!here) {
        spdlog::warn("{}: {}", guest_.name(),
                     s == PrimaryState::Left ? "handed over" : "another host runs it; this copy ends");
        return guest_.shut_down(0);
    }
    if (!why.what.empty()) spdlog::warn("{}: unprotected: {}", guest_.name(), why.what);
    // Who asked for it hears why it failed; an automatic attempt is repeated automatically.
    if (!wanted && (s == PrimaryState::Alone || options_.value("again", false)) &&
        options_.value("auto_reprotect", false))
        protect_again();
}

void GuestService::protect_again() {
    again_.expires_after(kAgain);
    again_.async_wait([this, gone = gone_](const boost::system::error_code& e) {
        if (e || *gone || asking_ || !over() || !options_.value("auto_reprotect", false)) return;
        // What it is busy with ends; a move of it, maybe with this process.
        if (guest_.occupied() || guest_.measured() || guest_.state() != vmm::GuestState::Running)
            return protect_again();
        Json a = options_;
        a["again"] = true;
        ask_for_standby(a, std::make_shared<std::optional<Reply>>(), true);
    });
}

void GuestService::protect_in(const Json& a, const Reply& r) {
    if (guest_.state() != vmm::GuestState::Incoming || backup_)
        return r.fail("refused", {"this guest doesn't wait for a primary", ""});
    BackupOptions o;
    if (!migrate::from_hex(a.at("token"), o.token)) return r.fail("invalid", {"malformed token", ""});
    o.channel = migrate::channel_options(a);
    o.address = a.value("listen", "");
    o.this_host = a.at("this_host");
    o.session = session_;
    o.state_directory = a.at("state_directory");
    for (const auto& d : a.value("disks", Json::array()))
        o.disks.push_back({d.at("name"), d.at("path"), d.at("size")});
    auto witness = make_witness(a.at("witness"), kWitnessTimeout);
    if (!witness) return r.fail("invalid", witness.error());
    witness_ = std::move(*witness);
    auto b = Backup::listen(guest_, witness_, std::move(o),
                            {[this, gone = gone_](BackupState s, const vmm::Error& why) {
                                if (!*gone) backup_changed(s, why);
                            }});
    if (!b) return r.fail("failed", b.error());
    backup_ = std::move(*b);
    guest_.set_state(vmm::GuestState::Standby);
    options_ = a.value("options", Json::object());
    // After a failover the roles are swapped: what this host was told of itself is what it says of itself.
    for (const char* key : {"this_host", "keys", "plaintext", "witness"})
        if (a.contains(key)) options_[key] = a.at(key);
    options_["host"] = a.value("primary_host", "");
    options_["auto_reprotect"] =
        options_.value("auto_reprotect", false) && !options_["host"].get<std::string>().empty();
    r.ok({{"port", backup_->port()}});
}

void GuestService::backup_changed(BackupState s, const vmm::Error& why) {
    last_status_ = status();
    if (s == BackupState::Discarded) {
        spdlog::info("{}: the standby is not needed any more{}{}", guest_.name(), why.what.empty() ? "" : ": ",
                     why.what);
        return guest_.shut_down(0);
    }
    holds_key_ = true;
    spdlog::warn("{}: has taken over and runs here, unprotected", guest_.name());
    guest_.io().post([this, gone = gone_] {
        if (!*gone) backup_.reset();
    });
    if (options_.value("auto_reprotect", false)) protect_again();
}

void GuestService::unprotect(const Reply& r) {
    options_["auto_reprotect"] = false;
    const bool again = again_.cancel() != 0;
    if (over() && !asking_ && again) return r.ok();
    if (over() && !asking_)
        return r.fail("refused", {guest_.name() + " is not protected", "proa protect --status"});
    if (unprotecting_ || handing_over_)
        return r.fail("refused", {"its protection is being changed already", ""});
    unprotecting_ = r;
    if (!over()) primary_->stop();  // else when the peer has answered
}

void GuestService::failover(const Reply& r) {
    if (over() || primary_->state() != PrimaryState::Protected)
        return r.fail("refused", {guest_.name() + " is not protected by a standby that could take over",
                                  "proa protect --status"});
    if (unprotecting_ || handing_over_)
        return r.fail("refused", {"its protection is being changed already", ""});
    handing_over_ = r;
    primary_->hand_over();
}

Json GuestService::status() const {
    Json j{{"name", guest_.name()},
           {"role", ""},
           {"state", "unprotected"},
           {"held_packets", 0},
           {"held_bytes", 0}};
    if (primary_) {
        primary_->status(j);
        const auto held = guest_.output()->held();
        j["held_packets"] = held.frames;
        j["held_bytes"] = held.bytes;
    } else if (backup_) {
        backup_->status(j);
    } else if (last_status_.is_object()) {
        j = last_status_;  // what it came to; "failover" among it
    }
    return j;
}

}  // namespace proa::remus
