// proad: the host daemon.
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "migrate/peer_service.hpp"

using namespace proa;

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);  // a peer that hangs up is an error of one write, not our end
    CLI::App app("proad: the host daemon of proa");
    vmm::DaemonOptions o;
    app.set_config("--config", "", "options in a file, one  key = value  a line");
    app.add_option("--run-dir", o.run, "sockets, logs")->capture_default_str();
    app.add_option("--state-dir", o.state, "what must survive a crash of this host")->capture_default_str();
    app.add_option("--keys", o.keys, "TLS credentials: ca.pem, host.pem, host.key")->capture_default_str();
    app.add_option("--listen", o.listen, "address for peers; all if empty");
    app.add_option("--port", o.port, "TCP port for peers")->capture_default_str();
    app.add_option("--proa-vm", o.vm_program, "the guest program");
    app.add_flag("--plaintext", o.plaintext,
                 "peers without TLS: anyone who reaches the port may read and move guests");
    CLI11_PARSE(app, argc, argv);
    const auto die = [](const vmm::Error& e) {
        spdlog::error("{}{}{}", e.what, e.remedy.empty() ? "" : "; ", e.remedy);
        return 1;
    };
    if (o.plaintext) spdlog::warn("peers are not authenticated (--plaintext)");
    boost::asio::io_context io;
    auto daemon = vmm::Daemon::create(io, o);
    if (!daemon) return die(daemon.error());
    auto peers = migrate::PeerService::start(**daemon);
    if (!peers) return die(peers.error());
    boost::asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](auto e, int) {
        if (!e) io.stop();
    });
    spdlog::info("ready; peers on port {}{}", o.port, o.plaintext ? " without TLS" : "");
    io.run();
    return 0;
}
