// proad: which guests this host runs. Starts a proa-vm per guest and holds its memory's memfd; learns running guests
// again from their sockets after a restart; answers `proa` on a Unix socket. One thread; nothing here blocks for long.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <map>
#include <memory>
#include <string>

#include "vmm/config/guest_config.hpp"
#include "vmm/hv/host_function.hpp"
#include "vmm/json_lines.hpp"

namespace proa::vmm {

struct DaemonOptions {
    std::string run = "/run/proa", keys = "/etc/proa/keys", listen, vm_program = "proa-vm";
    std::uint16_t port = 4650;
    bool plaintext = false;  // peers without TLS: only by an explicit flag
};

struct GuestEntry {
    std::string name;
    unsigned slot = 0;
    int pid = 0, memfd = -1;
    bool incoming = false;
    std::string session;  // incoming: the token
};

class Daemon {
  public:
    static Result<std::unique_ptr<Daemon>> create(boost::asio::io_context& io, DaemonOptions options);
    ~Daemon();

    boost::asio::io_context& io() { return io_; }
    const DaemonOptions& options() const { return options_; }
    CommandRegistry& commands() { return commands_; }
    HostFunction& host() { return *host_; }
    const GuestEntry* find(const std::string& name);
    const GuestEntry* find_session(const std::string& session);
    std::string socket_of(const std::string& name) const { return options_.run + "/vm/" + name + ".sock"; }
    std::string sessions_directory() const { return options_.run + "/sessions"; }

    struct StartRequest {
        std::string config_text, file;
        std::vector<std::string> overrides;
        bool paused = false, incoming = false;
        std::string policy_hex, session;  // incoming only
    };
    // Parses, checks, starts proa-vm; `ready` is called when its socket answers, or with the reason it did not.
    void start(const StartRequest& r, std::function<void(Result<Json>)> ready);

  private:
    Daemon(boost::asio::io_context& io, DaemonOptions options);
    void adopt();
    void reap();
    void wait_ready(const std::string& name, unsigned tries, std::vector<std::string> warnings,
                    std::function<void(Result<Json>)> ready);
    Result<GuestEntry> spawn(const GuestConfig& c, const StartRequest& r);
    Result<unsigned> free_slot();
    void register_commands();
    std::string tail_of_log(const std::string& name) const;

    boost::asio::io_context& io_;
    DaemonOptions options_;
    std::unique_ptr<HostFunction> host_;
    std::map<std::string, GuestEntry> guests_;
    CommandRegistry commands_;
    std::unique_ptr<CommandServer> server_;
    boost::asio::signal_set children_;
};

}  // namespace proa::vmm
