// proa: the command. `migrate` is the same program under another name.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "transport/frame.hpp"
#include "transport/keys.hpp"
#include "vmm/cli/client.hpp"

using namespace proa;
using namespace proa::vmm::cli;
using vmm::Json;

namespace {

struct MigrateArgs {
    std::string guest, host, compress = "auto", no_converge = "stop", log = "hardware";
    double downtime = 300, bandwidth = 0;
    unsigned channels = 2, port = 4650;
    bool auto_converge = false, progress = false, plaintext = false, cancel = false, resolve = false;
};

void add_migrate(CLI::App& m, MigrateArgs& a) {
    m.add_option("guest", a.guest, "guest to move")->required();
    m.add_option("host", a.host, "where to: a host that runs proad");
    m.add_option("--downtime", a.downtime, "milliseconds the guest may stand still")
        ->check(CLI::Range(1.0, 600000.0))
        ->capture_default_str();
    m.add_option("--compress", a.compress, "auto, off, or a zstd level 1..19")->capture_default_str();
    m.add_option("--bandwidth", a.bandwidth, "limit in MiB/s; 0: none")->check(CLI::Range(0.0, 1e6));
    m.add_option("--channels", a.channels, "parallel data channels")
        ->check(CLI::Range(2, 8))
        ->capture_default_str();
    m.add_option("--port", a.port, "the peer's port")->capture_default_str();
    m.add_option("--no-converge", a.no_converge,
                 "if it never meets --downtime: stop the guest anyway, or giveup")
        ->check(CLI::IsMember({"stop", "giveup"}));
    m.add_option("--dirty-log", a.log, "hardware or write-protect")
        ->check(CLI::IsMember({"hardware", "write-protect"}));
    m.add_flag("--auto-converge", a.auto_converge, "slow the guest down stepwise if it dirties too fast");
    m.add_flag("--progress", a.progress, "show a progress bar");
    m.add_flag("--plaintext", a.plaintext, "no TLS: anyone on the network can read the guest");
    m.add_flag("--cancel", a.cancel, "stop a migration that is under way; the guest stays here");
    m.add_flag("--resolve", a.resolve, "after a lost link: ask the peer who runs the guest");
}

int run_migrate(const Context& c, const MigrateArgs& a) {
    Json r;
    if (a.cancel) return ask_guest(c, a.guest, "migrate-cancel", Json::object(), r);
    if (a.resolve) {
        const int e = ask_guest(c, a.guest, "migrate-resolve", Json::object(), r);
        if (e == kOk)
            std::printf("%s runs %s\n", a.guest.c_str(),
                        r.value("runs_here", false) ? "here" : "at the destination");
        return e;
    }
    if (a.host.empty())
        return complain({"invalid", {"where to? the destination host is missing", "proa migrate GUEST HOST"}});
    if (a.bandwidth != 0 && a.bandwidth < 1)
        return complain({"invalid", {"--bandwidth: at least 1 MiB/s", ""}});
    int level = transport::Compressor::kAuto;
    if (a.compress == "off")
        level = transport::Compressor::kOff;
    else if (a.compress != "auto") {
        level = std::atoi(a.compress.c_str());
        if (level < 1 || level > 19)
            return complain({"invalid", {"--compress: auto, off, or a level 1..19", ""}});
    }
    const Json options{{"downtime_ms", a.downtime},
                       {"compress", level},
                       {"bandwidth", static_cast<std::uint64_t>(a.bandwidth * 1048576)},
                       {"channels", a.channels},
                       {"auto_converge", a.auto_converge},
                       {"no_converge", a.no_converge},
                       {"dirty_log", a.log}};
    return migrate(c,
                   {{"guest", a.guest},
                    {"host", a.host},
                    {"port", a.port},
                    {"plaintext", a.plaintext},
                    {"options", options}},
                   a.progress || ::isatty(2) != 0);
}

double counter_frequency(const Context& c) {
    Json h;
    return ask(c, "host", Json::object(), h) == kOk ? h.value("cntfrq", 0.0) : 0.0;
}

int run_create(const Context& c, const std::string& file, const std::vector<std::string>& overrides,
               bool paused, bool attach) {
    std::ifstream in(file);
    if (!in) return complain({"invalid", {"cannot read " + file + ": " + std::strerror(errno), ""}});
    Json r;
    const int e = ask(c, "create",
                      {{"config", std::string(std::istreambuf_iterator<char>(in), {})},
                       {"file", file},
                       {"overrides", overrides},
                       {"paused", paused}},
                      r);
    if (e != kOk) return e;
    for (const auto& w : r.value("warnings", Json::array()))
        std::fprintf(stderr, "proa: warning: %s\n", w.get<std::string>().c_str());
    if (c.json)
        std::printf("%s\n", r.dump().c_str());
    else
        std::printf("%s: %s, ID %u\n", r.value("name", "").c_str(), r.value("state", "").c_str(),
                    r.value("slot", 0u));
    return attach ? console(c, r.value("name", "")) : kOk;
}

int run_list(const Context& c, const std::string& only, bool vcpus) {
    Json r;
    if (const int e = ask(c, "list", Json::object(), r); e != kOk) return e;
    Json guests = Json::array();
    for (const auto& g : r["guests"])
        if (only.empty() || g.value("name", "") == only) guests.push_back(g);
    if (!only.empty() && guests.empty())
        return complain(
            {"not-found", {"no guest named " + only + " on this host", "proa list shows what runs here"}});
    if (c.json)
        std::printf("%s\n", guests.dump().c_str());
    else if (vcpus)
        print_vcpus(guests, counter_frequency(c));
    else
        print_list(guests, counter_frequency(c));
    return kOk;
}

int run_info(const Context& c, const std::string& guest) {
    Json r;
    const int e =
        guest.empty() ? ask(c, "host", Json::object(), r) : ask_guest(c, guest, "info", Json::object(), r);
    if (e != kOk) return e;
    if (c.json) {
        std::printf("%s\n", r.dump().c_str());
        return kOk;
    }
    for (const auto& [k, v] : r.items())
        std::printf("%-16s %s\n", k.c_str(), v.is_string() ? v.get<std::string>().c_str() : v.dump().c_str());
    return kOk;
}

int run_top(const Context& c, unsigned seconds, unsigned rounds) {
    for (unsigned i = 0; rounds == 0 || i < rounds; ++i) {
        if (i > 0) std::this_thread::sleep_for(std::chrono::seconds(seconds));
        if (::isatty(1) != 0) std::printf("\x1b[H\x1b[2J");
        if (const int e = run_list(c, "", true); e != kOk) return e;
    }
    return kOk;
}

}  // namespace

int main(int argc, char** argv) {
    Context c;
    const char* name = std::strrchr(argv[0], '/');
    const bool as_migrate = std::strcmp(name != nullptr ? name + 1 : argv[0], "migrate") == 0;
    CLI::App app(as_migrate ? "migrate: moves a running guest to another host"
                            : "proa: guests on this host, and their way to others");
    app.add_option("--socket", c.socket, "proad's socket")->capture_default_str();
    app.add_flag("--json", c.json, "facts as JSON");
    app.set_version_flag("--version", "proa " PROA_VERSION);
    MigrateArgs m;
    std::string guest, file, vcpu, cpus, directory = "keys";
    std::vector<std::string> overrides, hosts;
    bool paused = false, attach = false;
    unsigned interval = 2, rounds = 0;
    if (as_migrate) {
        add_migrate(app, m);
        CLI11_PARSE(app, argc, argv);
        return run_migrate(c, m);
    }
    app.require_subcommand(1);
    app.fallthrough();
    const auto with_guest = [&](const char* n, const char* help) {
        auto* s = app.add_subcommand(n, help);
        s->add_option("guest", guest, "guest's name")->required();
        return s;
    };
    auto* create = app.add_subcommand("create", "start a guest from a config file (xl.cfg syntax)");
    create->add_option("config", file, "config file")->required();
    create->add_option("setting", overrides, "key=value, over the file's");
    create->add_flag("-p,--paused", paused, "load it but don't run it");
    create->add_flag("-c,--console", attach, "attach to its console");
    auto* list = app.add_subcommand("list", "guests on this host");
    list->add_option("guest", guest);
    auto* info = app.add_subcommand("info", "facts about this host, or a guest");
    info->add_option("guest", guest);
    auto* con = with_guest("console", "attach to a guest's console (Ctrl-] leaves)");
    for (const char* s : {"pause", "unpause", "shutdown", "reboot", "destroy"})
        with_guest(s, (std::string(s) + " a guest").c_str());
    auto* vl = app.add_subcommand("vcpu-list", "vCPUs and where they run");
    vl->add_option("guest", guest);
    auto* pin = with_guest("vcpu-pin", "say where a vCPU may run");
    pin->add_option("vcpu", vcpu, "number, or all")->required();
    pin->add_option("cpus", cpus, "CPU list: 0-3,^1 or all")->required();
    std::string log_mode;
    auto* log = with_guest("dirty-log", "track a guest's writes without moving it, for measurements");
    log->add_option("mode", log_mode, "off, hardware or write-protect")
        ->required()
        ->check(CLI::IsMember({"off", "hardware", "write-protect"}));
    auto* dmesg = app.add_subcommand("dmesg", "proa-hv's log");
    auto* top = app.add_subcommand("top", "vCPUs, again and again");
    top->add_option("-d", interval, "seconds between")->check(CLI::Range(1, 3600));
    top->add_option("-n", rounds, "how often; 0: until Ctrl-C");
    auto* mig = app.add_subcommand("migrate", "move a running guest to another host");
    add_migrate(*mig, m);
    auto* keys = app.add_subcommand("keys", "TLS credentials of hosts");
    auto* init = keys->add_subcommand("init", "make a CA and a certificate for each host");
    init->add_option("host", hosts, "names or addresses, as others dial them")->required();
    init->add_option("--dir", directory, "where to")->capture_default_str();
    keys->require_subcommand(1);
    auto* completion = app.add_subcommand("completion", "a bash completion script");
    auto* help = app.add_subcommand("help", "this text");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? kOk : kUsage;
    }

    Json r;
    if (create->parsed()) return run_create(c, file, overrides, paused, attach);
    if (list->parsed()) return run_list(c, guest, false);
    if (vl->parsed()) return run_list(c, guest, true);
    if (info->parsed()) return run_info(c, guest);
    if (con->parsed()) return console(c, guest);
    if (pin->parsed()) return ask_guest(c, guest, "vcpu-pin", {{"vcpu", vcpu}, {"cpus", cpus}}, r);
    if (log->parsed()) return ask_guest(c, guest, "dirty-log", {{"mode", log_mode}}, r);
    if (mig->parsed()) return run_migrate(c, m);
    if (top->parsed()) return run_top(c, interval, rounds);
    if (dmesg->parsed()) {
        const int e = ask(c, "dmesg", Json::object(), r);
        if (e == kOk) std::fputs(r.value("text", "").c_str(), stdout);
        return e;
    }
    if (init->parsed()) {
        if (auto k = transport::init_keys(directory, hosts); !k)
            return complain({"failed", {k.error().what, k.error().remedy}});
        for (const auto& h : hosts)
            std::printf("%s/%s: copy to /etc/proa/keys on %s\n", directory.c_str(), h.c_str(), h.c_str());
        return kOk;
    }
    if (completion->parsed()) return std::fputs(completion_script(), stdout), kOk;
    if (help->parsed()) return std::fputs(app.help().c_str(), stdout), kOk;
    return ask_guest(c, guest, app.get_subcommands().front()->get_name(), Json::object(), r);
}
