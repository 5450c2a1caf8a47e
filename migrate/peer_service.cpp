#include "migrate/peer_service.hpp"

#include <spdlog/spdlog.h>

#include <future>
#include <thread>

#include "migrate/peer_call.hpp"
#include "migrate/preflight.hpp"
#include "migrate/session.hpp"
#include "vmm/config/guest_config.hpp"

namespace proa::migrate {
namespace {

using vmm::Reply;
constexpr std::chrono::hours kKeepSessions{30 * 24};

Json channel_json(const vmm::DaemonOptions& o) {
    return {{"keys", o.keys}, {"plaintext", o.plaintext}, {"listen", o.listen}};
}

// A peer's answer may hold anything: value() throws on a type it doesn't expect, and here that would end proad.
bool agrees(const Json& answer) {
    return answer.value("ok", Json()) == Json(true) && answer.value("port", Json()).is_number_unsigned();
}
std::string said(const Json& answer, const char* key, const char* otherwise) {
    const auto i = answer.find(key);
    return i != answer.end() && i->is_string() ? i->get<std::string>() : otherwise;
}

}  // namespace

vmm::Result<std::unique_ptr<PeerService>> PeerService::start(vmm::Daemon& daemon) {
    std::unique_ptr<PeerService> s(new PeerService(daemon));
    Session::prune(daemon.sessions_directory(), kKeepSessions);
    daemon.commands().add("migrate", [p = s.get()](const Json& a, const Reply& r) { p->migrate(a, r); });
    s->on_request("prepare", [p = s.get()](const Json& q, const std::string&, PeerReply done) {
        p->prepare(q, std::move(done));
    });
    s->on_request("outcome", [p = s.get()](const Json& q, const std::string&, PeerReply done) {
        p->outcome(q, std::move(done));
    });
    const auto& o = daemon.options();
    auto l = transport::Listener::listen(
        o.listen, o.port, channel_options(channel_json(o)),
        [p = s.get()](std::unique_ptr<transport::Channel> c) { p->serve(*c); },
        [](const transport::Error& e) { spdlog::warn("peer refused: {}", e.what); });
    if (!l) return vmm::fail(l.error().what, l.error().remedy);
    s->listener_ = std::move(*l);
    return s;
}

PeerService::~PeerService() = default;

// On the listener's thread: requests one after the other, each answered by the daemon's thread.
void PeerService::serve(transport::Channel& c) {
    for (;;) {
        auto b = expect(c, Record::PeerRequest);
        if (!b) return;
        auto answered = std::make_shared<std::promise<std::string>>();
        daemon_.io().post([this, answered, from = c.peer(), request = std::string(b->begin(), b->end())] {
            requests_.answer(request, from,
                             [answered](std::string text) { answered->set_value(std::move(text)); });
        });
        auto result = answered->get_future();
        if (result.wait_for(std::chrono::seconds(30)) != std::future_status::ready) return;
        const std::string text = result.get();
        if (!send(c, Record::PeerAnswer, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}))
            return;
    }
}

void PeerService::prepare(const Json& request, PeerReply done) {
    const Json& guest = request.at("guest");
    const std::string name = guest.at("name");
    if (auto r = preflight(daemon_, guest); !r) return done(refusal(r.error()));
    vmm::Daemon::StartRequest s;
    s.config_text = guest.at("config");
    s.file = "migrated config";
    s.incoming = true;
    s.policy_hex = guest.at("policy");
    s.session = request.at("session");
    const auto config = vmm::parse_config(s.config_text, s.file);
    if (!config || config->name != name) return done(refusal({"the guest's config isn't that of " + name, ""}));
    Token token;
    if (!from_hex(s.session, token)) return done(refusal({"malformed session", ""}));
    const Session record(daemon_.sessions_directory(), token);
    if (record.state() != SessionState::Unknown) return done(refusal({"this session was used before", ""}));
    const auto recorded = std::make_shared<vmm::Result<void>>();
    daemon_.start(s, [this, done, name, recorded, session = s.session](vmm::Result<Json> started) {
        if (!*recorded) return done(refusal(recorded->error()));
        if (!started) return done(refusal(started.error()));
        Json a = channel_json(daemon_.options());
        a["token"] = session;
        vmm::async_call(daemon_.io(), daemon_.socket_of(name), "migrate-in", a, {},
                        [done](tl::expected<Json, vmm::CallError> r) {
                            if (!r) return done(refusal(r.error().error));
                            done({{"ok", true}, {"port", (*r)["port"]}});
                        });
    });
    if (daemon_.find_session(s.session) == nullptr) return;  // said why already
    // Before anything can start here (nobody has been told of it yet): from now on this host answers for the session, also
    // after a crash. It waits for the disk; proa-vm starts meanwhile.
    if (const auto opened = record.apply(SessionEvent::Prepared); !opened)
        *recorded = tl::unexpected(opened.error());
    else if (*opened == SessionAnswer::Denied)
        *recorded = vmm::fail("this session was used before");
    if (!*recorded) daemon_.kill_guest(name);
}

// Did session X start here? While it still could, asking makes it that it never will (switchover.hpp).
void PeerService::outcome(const Json& request, PeerReply done) {
    const std::string session = request.at("session");
    Token token;
    if (!from_hex(session, token)) return done(refusal({"malformed session", ""}));
    const auto answer = Session(daemon_.sessions_directory(), token).apply(SessionEvent::Asked);
    if (!answer) return done(refusal(answer.error()));
    if (*answer == SessionAnswer::Never)
        if (const vmm::GuestEntry* g = daemon_.find_session(session))
            vmm::async_call(daemon_.io(), daemon_.socket_of(g->name), "migrate-discard", Json::object(), {},
                            [](auto) {});
    done({{"ok", true},
          {"outcome", *answer == SessionAnswer::Started ? "started"
                      : *answer == SessionAnswer::Never ? "never"
                                                        : "unknown"}});
}

void PeerService::migrate(const Json& a, const Reply& r) {
    const std::string name = a.at("guest"), host = a.at("host");
    if (daemon_.find(name) == nullptr)
        return r.fail("not-found",
                      {"no guest named " + name + " on this host", "proa list shows what runs here"});
    Json options = a.value("options", Json::object());
    options.update(channel_json(daemon_.options()));
    if (a.value("plaintext", false)) options["plaintext"] = true;
    const auto port = a.value("port", daemon_.options().port);
    vmm::async_call(daemon_.io(), daemon_.socket_of(name), "migrate-describe", Json::object(), {},
                    [=, this](tl::expected<Json, vmm::CallError> d) mutable {
                        if (!d) return r.fail(d.error().code, d.error().error);
                        for (auto& disk : (*d)["disks"]) disk["size"] = disk_size(disk["path"]);
                        const std::string session = to_hex(random_token());
                        // The peer is asked on a thread: name look-up, TLS and its pre-flight may take seconds.
                        std::thread([=, this, guest = *d]() mutable {
                            auto answer =
                                ask_peer(host, port, channel_options(options),
                                         {{"cmd", "prepare"}, {"guest", guest}, {"session", session}});
                            daemon_.io().post([=, this]() mutable {
                                if (!answer)
                                    return r.fail("failed", {answer.error().what, answer.error().remedy});
                                if (!agrees(*answer))
                                    return r.fail("refused", {host + ": " + said(*answer, "what", "refused"),
                                                              said(*answer, "remedy", "")});
                                options["host"] = host;
                                options["port"] = (*answer)["port"];
                                options["peer_port"] = port;
                                options["token"] = session;
                                r.on_disconnect([this, name] {  // Ctrl-C of the command: the guest stays here
                                    vmm::async_call(daemon_.io(), daemon_.socket_of(name), "migrate-cancel",
                                                    Json::object(), {}, [](auto) {});
                                });
                                vmm::async_call(
                                    daemon_.io(), daemon_.socket_of(name), "migrate-out", options,
                                    [r](const Json& p) { r.progress(p); },
                                    [r](tl::expected<Json, vmm::CallError> done) {
                                        if (done)
                                            r.ok(std::move(*done));
                                        else
                                            r.fail(done.error().code, done.error().error);
                                    });
                            });
                        }).detach();
                    });
}

}  // namespace proa::migrate
