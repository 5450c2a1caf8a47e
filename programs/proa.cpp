// proa: the command. `migrate` is the same program under another name.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "completion/script.hpp"
#include "programs/help.hpp"
#include "programs/protect_arguments.hpp"
#include "transport/frame.hpp"
#include "vmm/cli/verbs.hpp"

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

// proa-keys (proa_keys.cpp) is found where this program is.
int run_keys(const std::string& directory, std::vector<std::string> hosts) {
    std::error_code e;
    std::string program = std::filesystem::read_symlink("/proc/self/exe", e).parent_path() / "proa-keys";
    std::string option = "--dir=" + directory, end = "--";
    std::vector<char*> argv{program.data(), option.data(), end.data()};
    for (auto& h : hosts) argv.push_back(h.data());
    argv.push_back(nullptr);
    ::execv(program.c_str(), argv.data());
    return complain({"failed",
                     {"cannot start " + program + ": " + std::strerror(errno),
                      "it belongs beside proa: copy it there from where proa was built"}});
}

int run_help(CLI::App& app, const std::string& topic) {
    std::string text;
    const auto verbs = app.get_subcommands([&](const CLI::App* s) { return s->get_name() == topic; });
    if (topic == "exit-codes")
        text = exit_codes_text();
    else if (topic == "config")
        text = kConfigHelp;
    else if (topic.empty())
        text = app.get_formatter()->make_help(&app, "proa", CLI::AppFormatMode::Normal);  // not this verb's own
    else if (!verbs.empty())
        text = verbs.front()->help("proa");
    else
        return complain(
            {"invalid", {"no help on " + topic, "proa help, proa help exit-codes, proa help config"}});
    std::fputs(text.c_str(), stdout);
    return kOk;
}

// CLI11's own text names the argument that is wrong; ours adds where to look.
int usage_error(const CLI::App& app, const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    const auto verbs = app.get_subcommands();
    const std::string verb = verbs.empty() ? "" : verbs.front()->get_name();
    return complain({"invalid", {e.what(), app.get_name() + (verb.empty() ? "" : " " + verb) + " --help"}});
}

}  // namespace

int main(int argc, char** argv) {
    Context c;
    const char* slash = std::strrchr(argv[0], '/');
    const bool as_migrate = std::strcmp(slash != nullptr ? slash + 1 : argv[0], "migrate") == 0;
    CLI::App app(as_migrate ? "migrate: moves a running guest to another host"
                            : "proa: guests on this host, and their way to others",
                 as_migrate ? "migrate" : "proa");
    app.add_option("--socket", c.socket, "proad's socket")->capture_default_str();
    app.add_flag("--json", c.json, "facts as JSON");
    app.set_version_flag("--version", "proa " PROA_VERSION);
    app.footer(as_migrate ? "Exit codes: proa help exit-codes"
                          : "More: proa help VERB, proa help config, proa help exit-codes");
    MigrateArgs m;
    if (as_migrate) {
        add_migrate(app, m);
        try {
            app.parse(argc, argv);
        } catch (const CLI::ParseError& e) {
            return usage_error(app, e);
        }
        return run_migrate(c, m);
    }
    CreateArgs creation;
    PowerArgs power;
    std::string guest, vcpu, cpus, topic, shell = "bash", directory = "keys";
    std::vector<std::string> hosts;
    unsigned interval = 2, rounds = 0;
    bool clear = false, follow = false, vcpus = false;
    app.require_subcommand(1);
    app.fallthrough();
    const auto verb = [&](const char* name, const char* help, bool guest_needed) {
        auto* s = app.add_subcommand(name, help);
        s->add_option("guest", guest, "guest's name")->required(guest_needed);
        return s;
    };
    auto* create_ = app.add_subcommand("create", "start a guest from a config file (proa help config)");
    create_->add_option("config", creation.file, "config file")->required();
    create_->add_option("setting", creation.overrides, "key=value, over the file's");
    create_->add_flag("-p,--paused", creation.paused, "load it but don't run it");
    create_->add_flag("-c,--console", creation.attach, "join its console before it runs");
    create_->add_flag("-n,--dry-run", creation.dry_run, "check the config, start nothing");
    auto* list_ = verb(
        "list", "guests on this host: r(unning) b(locked) p(aused) w(aits as a standby) s(topped) c(rashed)",
        false);
    auto* info_ = verb("info", "facts about this host, or a guest", false);
    auto* console_ = verb("console", "attach to a guest's console (Ctrl-] leaves)", true);
    verb("pause", "stop a guest's vCPUs where they are", true);
    verb("unpause", "let a paused guest go on", true);
    auto* shutdown_ = verb("shutdown", "press a guest's power button", true);
    shutdown_->add_flag("-w,--wait", power.wait, "until it is down");
    shutdown_->add_option("--timeout", power.timeout, "seconds to wait")->capture_default_str();
    auto* reboot_ = verb("reboot", "press a guest's power button and start it again (on_reboot)", true);
    reboot_->add_flag("-F,--force", power.force, "reset it at once instead: it is not asked");
    verb("destroy", "end a guest at once: it is not asked", true);
    auto* vcpu_list = verb("vcpu-list", "vCPUs and where they run", false);
    auto* pin = verb("vcpu-pin", "say where a vCPU may run", true);
    pin->add_option("vcpu", vcpu, "number, or all")->required();
    pin->add_option("cpus", cpus, "CPU list: 0-3,^1 or all")->required();
    std::string log_mode;
    auto* log = verb("dirty-log", "track a guest's writes without moving it, for measurements", true);
    log->add_option("mode", log_mode,
                    "off, hardware, write-protect; harvest: count and re-arm; checkpoint: take copy-on-write "
                    "checkpoints "
                    "and check them; fence: stop it after a while")
        ->required()
        ->check(CLI::IsMember({"off", "hardware", "write-protect", "harvest", "checkpoint", "fence"}));
    unsigned cycles = 10, wait_ms = 20, after_ms = 1000;
    std::string checkpoint_log = "write-protect";
    log->add_option("--cycles", cycles, "checkpoint: how many")->capture_default_str();
    log->add_option("--wait", wait_ms, "checkpoint: ms from its pause until its pages are read")
        ->capture_default_str();
    log->add_option("--log", checkpoint_log, "checkpoint: which dirty log")
        ->check(CLI::IsMember({"hardware", "write-protect"}))
        ->capture_default_str();
    log->add_option("--after", after_ms, "fence: ms from now; 0: no fence any more")->capture_default_str();
    auto* dmesg_ = app.add_subcommand("dmesg", "proa-hv's log");
    dmesg_->add_flag("-c,--clear", clear, "next time, show only what is new");
    dmesg_->add_flag("-f,--follow", follow, "go on until Ctrl-C");
    auto* top_ = app.add_subcommand("top", "who uses the CPUs, again and again");
    top_->add_option("-d", interval, "seconds between")->check(CLI::Range(1, 3600))->capture_default_str();
    top_->add_option("-n", rounds, "how often; 0: until Ctrl-C")->capture_default_str();
    top_->add_flag("-v,--vcpus", vcpus, "each vCPU too");
    auto* migrate_ = app.add_subcommand("migrate", "move a running guest to another host");
    add_migrate(*migrate_, m);
    ProtectArgs protection;
    auto* protect_ = app.add_subcommand("protect", "keep a guest's copy on another host, ready to go on there");
    add_protect(*protect_, protection);
    auto* unprotect_ = verb("unprotect", "end a guest's protection; it goes on here", true);
    auto* failover_ =
        verb("failover", "hand a protected guest over to its backup, without losing anything", true);
    auto* keys = app.add_subcommand("keys", "TLS credentials of hosts");
    auto* init = keys->add_subcommand("init", "make a CA and a certificate for each host");
    init->add_option("host", hosts, "names or addresses, as others dial them")->required();
    init->add_option("--dir", directory, "where to")->capture_default_str();
    keys->require_subcommand(1);
    auto* completion = app.add_subcommand("completion", "a completion script for your shell");
    completion->add_option("shell", shell, "bash")->check(CLI::IsMember({"bash"}));
    auto* help = app.add_subcommand("help", "this text, a verb's, config or exit-codes");
    help->add_option("topic", topic);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return usage_error(app, e);
    }

    if (create_->parsed()) return create(c, creation);
    if (list_->parsed()) return list(c, guest, false);
    if (vcpu_list->parsed()) return list(c, guest, true);
    if (info_->parsed()) return info(c, guest);
    if (console_->parsed()) return console(c, guest);
    if (shutdown_->parsed()) return shutdown(c, guest, power);
    if (reboot_->parsed()) return reboot(c, guest, power);
    if (migrate_->parsed()) return run_migrate(c, m);
    if (protect_->parsed()) return run_protect(c, protection);
    if (unprotect_->parsed()) return unprotect(c, guest);
    if (failover_->parsed()) return failover(c, guest);
    if (top_->parsed()) return top(c, interval, rounds, vcpus);
    if (dmesg_->parsed()) return dmesg(c, clear, follow);
    if (init->parsed()) return run_keys(directory, hosts);
    if (completion->parsed()) return std::fputs(kBashCompletion, stdout), kOk;
    if (help->parsed()) return run_help(app, topic);
    Json r;
    if (pin->parsed()) return ask_guest(c, guest, "vcpu-pin", {{"vcpu", vcpu}, {"cpus", cpus}}, r);
    if (log->parsed()) {
        Json a{{"mode", log_mode}};
        if (log_mode == "checkpoint")
            a.update({{"cycles", cycles}, {"wait_ms", wait_ms}, {"log", checkpoint_log}});
        if (log_mode == "fence") a["after_ms"] = after_ms;
        const int e = ask_guest(c, guest, "dirty-log", a, r);
        if (e == kOk && (log_mode == "harvest" || log_mode == "checkpoint")) print_json(r);
        return e;
    }
    return ask_guest(c, guest, app.get_subcommands().front()->get_name(), Json::object(), r);
}
