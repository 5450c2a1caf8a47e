// proad: the host daemon.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "migrate/peer_service.hpp"
#include "remus/standby_service.hpp"

using namespace proa;

namespace {

std::string hostname() {
    char b[256] = {};
    return ::gethostname(b, sizeof(b) - 1) == 0 ? b : "";
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);  // a peer that hangs up is an error of one write, not our end
    CLI::App app("proad: the host daemon of proa");
    vmm::DaemonOptions o;
    app.set_config("--config", "/etc/proa/proad.conf", "options in a file, one  key = value  a line");
    app.add_option("--run-dir", o.run, "sockets, logs")->capture_default_str();
    app.add_option("--state-dir", o.state, "what must survive a crash of this host")->capture_default_str();
    app.add_option("--keys", o.keys, "TLS credentials: ca.pem, host.pem, host.key")->capture_default_str();
    app.add_option("--listen", o.listen, "address for peers; all if empty");
    app.add_option("--port", o.port, "TCP port for peers")->capture_default_str();
    app.add_option("--proa-vm", o.vm_program, "the guest program");
    app.add_flag("--plaintext", o.plaintext,
                 "peers without TLS: anyone who reaches the port may read and move guests");
    app.add_option("--witness", o.witness,
                   "who decides which host runs a protected guest: etcd://HOST:PORT[,...]; or none (--unsafe)")
        ->join(',');  // what a config file splits at commas
    app.add_flag("--unsafe", o.witness_unsafe, "with --witness none: yes, both hosts may come to run a guest");
    app.add_option("--name", o.name, "how this host calls itself to the witness; its hostname if empty");
    CLI11_PARSE(app, argc, argv);
    const auto die = [](const vmm::Error& e) {
        spdlog::error("{}{}{}", e.what, e.remedy.empty() ? "" : "; ", e.remedy);
        return 1;
    };
    if (const auto wrong = remus::complaint_about_witness(o.witness, o.witness_unsafe)) return die(*wrong);
    if (o.name.empty()) o.name = hostname();
    if (o.witness_unsafe)
        spdlog::warn(
            "no witness (--unsafe): hosts that lose sight of each other may both run a protected guest");
    if (o.plaintext) spdlog::warn("peers are not authenticated (--plaintext)");
    boost::asio::io_context io;
    auto daemon = vmm::Daemon::create(io, o);
    if (!daemon) return die(daemon.error());
    auto peers = migrate::PeerService::start(**daemon);
    if (!peers) return die(peers.error());
    auto standbys = remus::StandbyService::start(**daemon, **peers);
    if (!standbys) return die(standbys.error());
    boost::asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](auto e, int) {
        if (!e) io.stop();
    });
    spdlog::info("ready; peers on port {}{}", o.port, o.plaintext ? " without TLS" : "");
    io.run();
    return 0;
}
