// What `proa` may ask of this host.
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>

#include "vmm/daemon/daemon.hpp"

namespace proa::vmm {
namespace {

Json host_json(const abi::HostInfo& i) {
    return {{"version", i.version},
            {"pcpus", i.pcpus},
            {"cntfrq", i.cntfrq},
            {"uptime_s", static_cast<double>(i.counter - i.boot_ticks) / static_cast<double>(i.cntfrq)},
            {"pool_pages", i.pool_pages},
            {"free_pages", i.free_pages},
            {"image_bytes", i.image_bytes},
            {"hardware_dirty", i.hardware_dirty != 0},
            {"list_registers", i.list_registers},
            {"guests", i.guests}};
}

constexpr std::chrono::seconds kListTimeout{3}, kDestroyTimeout{10};

// Answers when the last guest has.
struct Listing {
    explicit Listing(Reply r) : reply(std::move(r)) {}
    Json guests = Json::array();
    Reply reply;
    ~Listing() {
        std::sort(guests.begin(), guests.end(),
                  [](const Json& x, const Json& y) { return x.value("slot", 0u) < y.value("slot", 0u); });
        reply.ok({{"guests", guests}});
    }
};

Error no_such_guest(const std::string& name) {
    return {"no guest named " + name + " on this host", "proa list shows what runs here"};
}

}  // namespace

void Daemon::register_commands() {
    register_host_commands();
    commands_.add("create", [this](const Json& a, const Reply& r) {
        StartRequest s;
        s.config_text = a.at("config");
        s.file = a.value("file", "config");
        s.overrides = a.value("overrides", std::vector<std::string>{});
        s.paused = a.value("paused", false);
        const auto config = check(s);
        if (!config) return r.fail(config.error().code, config.error().error);
        r.on_disconnect([this, name = config->name] {  // Ctrl-C of `proa create`: no half-started guest stays
            spdlog::info("{}: its creator left before it was started; destroyed", name);
            kill_guest(name);
        });
        start(s, [r](Result<Json> done) {
            if (done)
                r.ok(std::move(*done));
            else
                r.fail("failed", done.error());
        });
    });
    commands_.add("list", [this](const Json&, const Reply& r) { list(r); });
    // Everything about one guest is its own proa-vm's to answer: {"guest": name, "cmd": ..., "args": ...}.
    commands_.add("guest", [this](const Json& a, const Reply& r) { guest_command(a, r); });
    commands_.add("socket", [this](const Json& a, const Reply& r) {
        const std::string name = a.at("guest");
        if (find(name) == nullptr) return r.fail("not-found", no_such_guest(name));
        r.ok({{"path", socket_of(name)}});
    });
}

void Daemon::register_host_commands() {
    commands_.add("host", [this](const Json&, const Reply& r) {
        auto i = host_->info();
        if (!i) return r.fail("failed", i.error());
        Json j = host_json(*i);
        if (auto c = host_->cpus()) {
            j["cpus"] = Json::array();
            for (const auto& p : *c)
                j["cpus"].push_back({{"busy_ticks", p.busy_ticks},
                                     {"idle_ticks", p.idle_ticks},
                                     {"switches", p.switches},
                                     {"exits", p.exits},
                                     {"interrupts", p.interrupts}});
        }
        r.ok(std::move(j));
    });
    // {"since": sequence} gives what came after; {"clear": true} hides what is there now from the next one that doesn't
    // say `since`.
    commands_.add("dmesg", [this](const Json& a, const Reply& r) {
        std::uint64_t next = a.value("since", log_from_);
        auto text = host_->log(next);
        if (!text) return r.fail("failed", text.error());
        if (a.value("clear", false)) log_from_ = next;
        r.ok({{"text", std::move(*text)}, {"next", next}});
    });
}

void Daemon::list(const Reply& r) {
    auto all = std::make_shared<Listing>(r);
    for (const auto& [name, g] : guests_)
        async_call(
            io_, socket_of(name), "info", Json::object(), {},
            [all, entry = g](tl::expected<Json, CallError> i) {
                if (i)
                    all->guests.push_back(std::move(*i));
                else if (i.error().code == "timeout")
                    all->guests.push_back({{"name", entry.name},
                                           {"slot", entry.slot},
                                           {"pid", entry.pid},
                                           {"state", "unresponsive"},
                                           {"protection", ""}});
            },
            kListTimeout);
}

void Daemon::guest_command(const Json& a, const Reply& r) {
    const std::string name = a.at("guest"), command = a.at("cmd");
    if (find(name) == nullptr) return r.fail("not-found", no_such_guest(name));
    if (command == "destroy") return destroy(name, r);
    async_call(
        io_, socket_of(name), command, a.value("args", Json::object()), [r](const Json& p) { r.progress(p); },
        [r](tl::expected<Json, CallError> done) {
            if (done)
                r.ok(std::move(*done));
            else
                r.fail(done.error().code, done.error().error);
        });
}

// Answers when the guest is gone: its name, slot and memory are free again. One that hangs is killed, and proa-hv stops
// its guest.
void Daemon::destroy(const std::string& name, const Reply& r) {
    auto timer = std::make_shared<boost::asio::steady_timer>(io_, kDestroyTimeout);
    timer->async_wait([this, name](auto e) {
        if (!e) kill_guest(name);
    });
    when_gone(name, [r, timer] {
        timer->cancel();
        r.ok();
    });
    async_call(io_, socket_of(name), "destroy", Json::object(), {},
               [this, name](tl::expected<Json, CallError> done) {
                   if (!done) kill_guest(name);
               });
}

}  // namespace proa::vmm
