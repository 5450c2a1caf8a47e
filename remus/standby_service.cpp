#include "remus/standby_service.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>

#include "migrate/preflight.hpp"
#include "remus/replica_files.hpp"

namespace proa::remus {
namespace {

using vmm::CallError;
using vmm::Json;
using vmm::Reply;

constexpr std::chrono::milliseconds kAgain{200};
constexpr std::chrono::seconds kStatusTimeout{3};
constexpr std::chrono::seconds kProtectInTimeout{20};  // the peer that asks waits for 30
constexpr std::chrono::seconds kLeaving{3};            // for so long an old copy may take to end

void pass_on(const Reply& r, tl::expected<Json, CallError> done) {
    if (done)
        r.ok(std::move(*done));
    else
        r.fail(done.error().code, done.error().error);
}

// Answers when the last guest has.
struct Statuses {
    explicit Statuses(Reply r) : reply(std::move(r)) {}
    Json guests = Json::array();
    Reply reply;
    ~Statuses() {
        std::sort(guests.begin(), guests.end(), [](const Json& x, const Json& y) {
            return x["name"].get_ref<const std::string&>() < y["name"].get_ref<const std::string&>();
        });
        reply.ok({{"guests", std::move(guests)}});
    }
};

}  // namespace

vmm::Result<std::unique_ptr<StandbyService>> StandbyService::start(vmm::Daemon& daemon,
                                                                   migrate::PeerService& peers) {
    std::unique_ptr<StandbyService> s(new StandbyService(daemon));
    if (const auto wrong = complaint_about_witness(daemon.options().witness, daemon.options().witness_unsafe))
        return tl::unexpected(*wrong);
    if (::mkdir(s->state_directory().c_str(), 0700) != 0 && errno != EEXIST)
        return vmm::fail("cannot make " + s->state_directory() + ": " + std::strerror(errno),
                         "choose a --state-dir");
    auto& c = daemon.commands();
    c.add("protect", [p = s.get()](const Json& a, const Reply& r) { p->protect(a, r); });
    c.add("unprotect", [p = s.get()](const Json& a, const Reply& r) { p->forward("unprotect", a, r); });
    c.add("failover", [p = s.get()](const Json& a, const Reply& r) { p->forward("failover", a, r); });
    c.add("protect-status", [p = s.get()](const Json& a, const Reply& r) { p->status(a, r); });
    peers.on_request("standby", [p = s.get()](const Json& q, const std::string& from, migrate::PeerReply done) {
        p->standby(q, from, std::move(done));
    });
    return s;
}

bool StandbyService::has_guest(const std::string& name, const Reply& r) const {
    if (daemon_.find(name) != nullptr) return true;
    r.fail("not-found", {"no guest named " + name + " on this host", "proa list shows what runs here"});
    return false;
}

void StandbyService::protect(const Json& asked, const Reply& r) {
    const std::string name = asked.at("guest");
    if (!has_guest(name, r)) return;
    auto a = protect_out_arguments(asked, daemon_.find(name)->auto_reprotect, daemon_.options());
    if (!a) return r.fail(a.error().code, a.error().error);
    const auto over = std::make_shared<bool>(false);
    r.on_disconnect([this, name, over] { give_up(name, over); });  // the guest goes on, unprotected
    vmm::async_call(
        daemon_.io(), daemon_.socket_of(name), "protect-out", *a, [r](const Json& p) { r.progress(p); },
        [this, r, name, over](tl::expected<Json, CallError> done) {
            // Nobody heard that it is protected: it must not stay so.
            if (done && r.client_gone()) give_up(name, over);
            *over = true;
            pass_on(r, std::move(done));
        });
}

// Refused while the hosts still talk about whether it may begin at all, and asked again.
void StandbyService::give_up(const std::string& name, std::shared_ptr<const bool> over) {
    if (*over || daemon_.find(name) == nullptr) return;
    vmm::async_call(daemon_.io(), daemon_.socket_of(name), "unprotect", Json::object(), {},
                    [this, name, over](tl::expected<Json, CallError> done) {
                        if (done) return;
                        auto timer = std::make_shared<boost::asio::steady_timer>(daemon_.io(), kAgain);
                        timer->async_wait([this, name, over, timer](auto e) {
                            if (!e) give_up(name, over);
                        });
                    });
}

void StandbyService::forward(const char* command, const Json& args, const Reply& r) {
    const std::string name = args.at("guest");
    if (!has_guest(name, r)) return;
    vmm::async_call(
        daemon_.io(), daemon_.socket_of(name), command, Json::object(), [r](const Json& p) { r.progress(p); },
        [r](tl::expected<Json, CallError> done) { pass_on(r, std::move(done)); });
}

// Of one guest or of all. A guest that does not answer is listed all the same: it may be the one that matters.
void StandbyService::status(const Json& args, const Reply& r) {
    const std::string only = args.value("guest", "");
    if (!only.empty() && !has_guest(only, r)) return;
    auto all = std::make_shared<Statuses>(r);
    for (const auto& [name, g] : daemon_.guests()) {
        if (!only.empty() && name != only) continue;
        vmm::async_call(
            daemon_.io(), daemon_.socket_of(name), "protect-status", Json::object(), {},
            [all, guest = name](tl::expected<Json, CallError> s) {
                Json row = s && s->is_object() ? std::move(*s) : Json{{"state", s ? "?" : "unresponsive"}};
                row["name"] = guest;
                all->guests.push_back(std::move(row));
            },
            kStatusTimeout);
    }
}

vmm::Result<void> StandbyService::check_host(const StandbyRequest& r) {
    if (auto ok = migrate::preflight_host(daemon_, r.guest); !ok) return ok;
    for (const auto& d : r.config.disks)
        if (d.read_only && migrate::disk_size(d.path) == 0)
            return vmm::fail(
                "disk " + d.path + " is not there: " + std::strerror(errno),
                "read-only disks aren't replicated: the same disk must be on both hosts, under the "
                "same path");
    return {};
}

// What may throw (a wrong type in the request) does so before anything has begun: PeerRequests refuses it.
void StandbyService::standby(const Json& request, const std::string& from, migrate::PeerReply done) {
    auto read = read_standby_request(request, daemon_.options());
    if (!read) return done(migrate::refusal(read.error()));
    const auto r = std::make_shared<const StandbyRequest>(std::move(*read));
    when_free(r->name, std::chrono::steady_clock::now() + kLeaving,
              [this, r, from, done](const std::optional<vmm::Error>& taken) {
                  if (taken) return done(migrate::refusal(*taken));
                  try {
                      start_standby(r, from, done);
                  } catch (const Json::exception& e) {
                      done(migrate::refusal({std::string("malformed request: ") + e.what(), ""}));
                  }
              });
}

// The standby of a protection that has just been given up is there for a moment: its host learns of it after the primary's.
void StandbyService::when_free(const std::string& name, std::chrono::steady_clock::time_point until,
                               WhenFree then) {
    if (daemon_.find(name) == nullptr) return then({});
    vmm::async_call(
        daemon_.io(), daemon_.socket_of(name), "info", Json::object(), {},
        [this, name, until, then = std::move(then)](tl::expected<Json, CallError> i) {
            const Json info = i && i->is_object() ? *i : Json::object();
            if (!may_be_leaving(info) || std::chrono::steady_clock::now() >= until)
                return then(explain_name_taken(name, info));
            const auto timer = std::make_shared<boost::asio::steady_timer>(daemon_.io(), kAgain);
            timer->async_wait([this, timer, name, until, then](const boost::system::error_code& e) {
                if (!e) when_free(name, until, then);
            });
        },
        kStatusTimeout);
}

void StandbyService::start_standby(const std::shared_ptr<const StandbyRequest>& r, const std::string& from,
                                   const migrate::PeerReply& done) {
    if (auto ok = check_host(*r); !ok) return done(migrate::refusal(ok.error()));
    std::vector<DiskInUse> in_use;
    for (const auto& [name, g] : daemon_.guests())
        for (const auto& path : g.disks) in_use.push_back({name, path});
    const auto made = std::make_shared<NewFiles>();
    if (auto ok = prepare_replicas(r->disks, in_use, *made); !ok) return done(migrate::refusal(ok.error()));
    vmm::Daemon::StartRequest s;
    s.config_text = r->guest.at("config");
    s.file = "protected config";
    s.overrides = r->overrides;
    s.incoming = true;
    s.policy_hex = r->policy;
    daemon_.start(s, [this, r, from, made, done](vmm::Result<Json> started) {
        if (!started) return done(migrate::refusal(started.error()));
        vmm::async_call(
            daemon_.io(), daemon_.socket_of(r->name), "protect-in",
            protect_in_arguments(*r, daemon_.options(), state_directory(), from), {},
            [this, r, made, done](tl::expected<Json, CallError> in) {
                if (in && in->value("port", Json()).is_number_unsigned()) {
                    made->keep();
                    spdlog::info("{}: a standby of another host's guest", r->name);
                    return done({{"ok", true}, {"port", (*in)["port"]}});
                }
                // Its name must be free for the next try.
                vmm::async_call(daemon_.io(), daemon_.socket_of(r->name), "destroy", Json::object(), {},
                                [](auto) {});
                done(
                    migrate::refusal(in ? vmm::Error{"malformed answer to protect-in", ""} : in.error().error));
            },
            kProtectInTimeout);
    });
}

}  // namespace proa::remus
