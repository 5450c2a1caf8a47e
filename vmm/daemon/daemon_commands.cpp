// What `proa` may ask of this host.
#include <signal.h>

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

// Answers when the last guest has.
struct Listing {
    explicit Listing(Reply r) : reply(std::move(r)) {}
    Json guests = Json::array();
    Reply reply;
    ~Listing() { reply.ok({{"guests", guests}}); }
};

}  // namespace

void Daemon::register_commands() {
    commands_.add("create", [this](const Json& a, const Reply& r) {
        StartRequest s;
        s.config_text = a.at("config");
        s.file = a.value("file", "config");
        s.overrides = a.value("overrides", std::vector<std::string>{});
        s.paused = a.value("paused", false);
        start(s, [r](Result<Json> done) {
            if (done)
                r.ok(std::move(*done));
            else
                r.fail("failed", done.error());
        });
    });
    commands_.add("list", [this](const Json&, const Reply& r) {
        auto all = std::make_shared<Listing>(r);
        std::vector<std::string> names;
        for (const auto& [name, g] : guests_) names.push_back(name);
        for (const auto& name : names) {
            if (find(name) == nullptr) continue;
            async_call(io_, socket_of(name), "info", Json::object(), {},
                       [all](tl::expected<Json, CallError> i) {
                           if (i) all->guests.push_back(std::move(*i));
                       });
        }
    });
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
    commands_.add("dmesg", [this](const Json&, const Reply& r) {
        auto l = host_->log();
        if (l)
            r.ok({{"text", *l}});
        else
            r.fail("failed", l.error());
    });
    // Everything about one guest is its own proa-vm's to answer: {"guest": name, "cmd": ..., "args": ...}.
    commands_.add("guest", [this](const Json& a, const Reply& r) {
        const std::string name = a.at("guest"), command = a.at("cmd");
        const GuestEntry* g = find(name);
        if (g == nullptr)
            return r.fail("not-found",
                          {"no guest named " + name + " on this host", "proa list shows what runs here"});
        const int pid = g->pid;
        async_call(
            io_, socket_of(name), command, a.value("args", Json::object()),
            [r](const Json& p) { r.progress(p); },
            [r, command, pid](tl::expected<Json, CallError> done) {
                if (done) return r.ok(std::move(*done));
                if (command == "destroy" && ::kill(pid, SIGKILL) == 0)
                    return r.ok();  // it hangs: proa-hv stops its guest
                r.fail(done.error().code, done.error().error);
            });
    });
    commands_.add("socket", [this](const Json& a, const Reply& r) {
        const std::string name = a.at("guest");
        if (find(name) == nullptr)
            return r.fail("not-found",
                          {"no guest named " + name + " on this host", "proa list shows what runs here"});
        r.ok({{"path", socket_of(name)}});
    });
}

}  // namespace proa::vmm
