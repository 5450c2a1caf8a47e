// proa-vm: one guest. Started by proad; by hand it is a way to boot a guest without a daemon.
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>

#include "migrate/guest_service.hpp"
#include "migrate/preflight.hpp"
#include "remus/guest_service.hpp"
#include "vmm/process/guest_process.hpp"

using namespace proa;

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);  // a peer that hangs up is an error of one write, not our end
    CLI::App app("proa-vm: runs one guest");
    std::string file, directory = "/run/proa/vm", sessions = "/var/lib/proa/sessions", policy;
    std::vector<std::string> overrides;
    int ready_fd = -1;
    vmm::GuestOptions options;
    app.add_option("config", file, "guest configuration (xl.cfg syntax)")->required();
    app.add_option("setting", overrides, "key=value, as in the file");
    app.add_option("--slot", options.slot, "control function, 1..16")->check(CLI::Range(1, 16));
    app.add_option("--memfd", options.memfd, "inherited descriptor of the guest's memory");
    app.add_option(
        "--ready-fd", ready_fd,
        "inherited descriptor: when commands are served, a line with what `info` answers is written to it");
    app.add_option("--run-dir", directory, "where the control socket goes");
    app.add_option("--console-log", options.log_file, "append the guest's console output to this file");
    app.add_option("--sessions", sessions, "records of incoming migrations");
    app.add_option("--policy", policy, "incoming: the CPU the guest was shown, from its source");
    app.add_flag("--incoming", options.incoming, "wait for a migration instead of booting");
    app.add_flag("--paused", options.start_paused, "load the guest but don't run it");
    CLI11_PARSE(app, argc, argv);
    const auto die = [](const vmm::Error& e) {
        spdlog::error("{}{}{}", e.what, e.remedy.empty() ? "" : "; ", e.remedy);
        return 1;
    };

    std::ifstream in(file);
    if (!in) return die({"cannot read " + file, ""});
    auto config = vmm::parse_config({std::istreambuf_iterator<char>(in), {}}, file, overrides);
    if (!config) return die(config.error());
    for (const auto& w : config->warnings) spdlog::warn("{}", w);

    if (!policy.empty() && !migrate::policy_from_hex(policy, options.policy))
        return die({"--policy is malformed", ""});

    boost::asio::io_context io;
    auto guest = vmm::GuestProcess::create(io, std::move(*config), options);
    if (!guest) return die(guest.error());
    ::mkdir("/run/proa", 0755);
    ::mkdir(directory.c_str(), 0700);
    auto migration = std::make_unique<migrate::GuestService>(**guest, sessions);
    auto protection = std::make_unique<remus::GuestService>(**guest);
    auto server = vmm::CommandServer::listen(io, directory + "/" + (*guest)->config().name + ".sock",
                                             (*guest)->commands());
    if (!server) return die(server.error());
    boost::asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](auto e, int) {
        if (!e) (*guest)->shut_down(0);
    });
    if (!options.incoming)
        if (auto r = (*guest)->start(); !r) return die(r.error());
    spdlog::info("{}: {} in slot {}", (*guest)->config().name, vmm::name_of((*guest)->state()), options.slot);
    if (ready_fd >= 0) {
        std::FILE* const ready = ::fdopen(ready_fd, "w");
        if (ready == nullptr) return die({"--ready-fd is not a descriptor", ""});
        std::fputs(vmm::to_line((*guest)->info()).c_str(), ready);
        std::fclose(ready);  // a proad that has gone meanwhile finds the socket
    }
    io.run();
    server->reset();  // no new commands
    // Threads of migration and protection may still wait for this one: serve them until they are gone. Restarted first: a stop() that
    // came before restart() would be forgotten, and run() never end.
    io.restart();
    const auto work = boost::asio::make_work_guard(io);
    std::thread end([&] {
        protection.reset();
        migration.reset();
        io.stop();
    });
    io.run();
    end.join();
    return (*guest)->exit_code();
}
