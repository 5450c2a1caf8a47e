#include "programs/protect_arguments.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>

namespace proa {

void add_protect(CLI::App& p, vmm::cli::ProtectArgs& a) {
    p.add_option("guest", a.guest, "guest to protect; with --status: to look at");
    p.add_option("host", a.host, "its backup: a host that runs proad");
    p.add_option(
         "--interval", a.interval,
         "time between checkpoints (25ms, 0.2s), or adaptive: short while output waits, long while idle")
        ->capture_default_str();
    p.add_option("--max-lag", a.max_lag,
                 "adaptive: how old the backup's copy may become (200ms, or the interval if that is longer)");
    p.add_option("--max-overhead", a.max_overhead, "adaptive: percent of its time the guest may be stopped")
        ->check(CLI::Range(0.1, 90.0))
        ->capture_default_str();
    p.add_option(
         "--ack-timeout", a.ack_timeout,
         "how long a backup that takes nothing may hold up the guest's output, and its writes, before it is "
         "given up")
        ->capture_default_str();
    p.add_option("--disk", a.disks, "NAME=PATH: a disk, as the guest names it, and its replica on the backup")
        ->allow_extra_args(false);
    p.add_option("--port", a.port, "the peer's port")->check(CLI::Range(1, 65535))->capture_default_str();
    p.add_flag("--no-network-buffer", a.no_network_buffer, "let packets out at once (needs --unsafe)");
    p.add_flag("--unsafe", a.unsafe, "yes, a failover may take back what clients have seen");
    p.add_flag("--auto-reprotect", a.auto_reprotect, "protect it again when a lost host has come back");
    p.add_flag("--plaintext", a.plaintext, "no TLS: anyone on the network can read the guest");
    p.add_flag("--progress", a.progress, "show a progress bar");
    auto* status = p.add_flag("--status", a.status, "show how guests are protected instead");
    p.add_option("-w,--watch", a.watch, "with --status: again after so many seconds")
        ->check(CLI::Range(0.1, 3600.0))
        ->needs(status);
    p.add_option("-n,--rounds", a.rounds, "with --watch: how often; 0: until Ctrl-C")->needs(status);
}

int run_protect(const vmm::cli::Context& c, const vmm::cli::ProtectArgs& a) {
    if (!a.status) return protect(c, a, a.progress || ::isatty(2) != 0);
    if (!a.host.empty())
        return vmm::cli::complain(
            {"invalid", {"--status looks at a guest of this host", "proa protect --status [GUEST]"}});
    return protect_status(c, a);
}

}  // namespace proa
