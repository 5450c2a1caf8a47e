// proad: which guests this host runs. Starts a proa-vm per guest and holds its memory's memfd; learns running guests
// again from their sockets after a restart; answers `proa` on a Unix socket. One thread; nothing here blocks for long.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vmm/config/guest_config.hpp"
#include "vmm/hv/host_function.hpp"
#include "vmm/json_lines.hpp"

namespace proa::vmm {

struct DaemonOptions {
    std::string run = "/run/proa", state = "/var/lib/proa", keys = "/etc/proa/keys", listen,
                vm_program = "proa-vm";
    std::uint16_t port = 4650;
    bool plaintext = false;  // peers without TLS: only by an explicit flag
    // High availability. Who decides which host may run a protected guest, and how this one calls itself there; `unsafe`: a
    // pair without witness, by an explicit flag.
    std::string witness, name;
    bool witness_unsafe = false;
};

struct GuestEntry {
    std::string name;
    unsigned slot = 0;
    int pid = 0, memfd = -1;
    bool incoming = false;
    std::string session;             // incoming: the token
    std::vector<std::string> disks;  // their paths
    bool auto_reprotect = false;     // as its config says
};

class Daemon {
  public:
    static Result<std::unique_ptr<Daemon>> create(boost::asio::io_context& io, DaemonOptions options);
    ~Daemon();

    boost::asio::io_context& io() { return io_; }
    const DaemonOptions& options() const { return options_; }
    CommandRegistry& commands() { return commands_; }
    HostFunction& host() { return *host_; }
    const std::map<std::string, GuestEntry>& guests() const { return guests_; }
    const GuestEntry* find(const std::string& name) const;
    const GuestEntry* find_session(const std::string& session) const;
    std::string socket_of(const std::string& name) const { return file_of(name, "sock"); }
    // Not under /run: what happened to an incoming guest must be known after this host has crashed, too.
    std::string sessions_directory() const { return options_.state + "/sessions"; }

    struct StartRequest {
        std::string config_text, file;
        std::vector<std::string> overrides;
        bool paused = false, incoming = false;
        std::string policy_hex, session;  // incoming only
    };
    // Parses, checks, starts proa-vm; `ready` is called when it serves commands, with what it says of its guest (which may have
    // ended since), or with the reason it did not.
    void start(const StartRequest& r, std::function<void(Result<Json>)> ready);
    void kill_guest(const std::string& name) const;
    // The checks alone: codes "invalid" (the config) and "refused" (this host, now).
    tl::expected<GuestConfig, CallError> check(const StartRequest& r) const;

  private:
    Daemon(boost::asio::io_context& io, DaemonOptions options);
    Result<void> lock();
    void adopt();
    void reap();
    void watch(const std::string& name, int pid);
    void forget(const std::string& name);
    void when_gone(const std::string& name, std::function<void()> f);
    using Ready = std::function<void(Result<Json>)>;
    void wait_ready(const GuestConfig& c, int fd, const Ready& ready);
    void did_not_start(const std::string& name, int pid, const Ready& ready);
    Result<int> spawn(const GuestConfig& c, const StartRequest& r);  // its ready pipe
    Result<unsigned> free_slot();
    void register_commands();
    void register_host_commands();
    void list(const Reply& r);
    void guest_command(const Json& args, const Reply& r);
    void destroy(const std::string& name, const Reply& r);
    std::string tail_of_log(const std::string& name) const;
    std::string file_of(const std::string& name, const char* kind) const {
        return options_.run + "/vm/" + name + "." + kind;
    }

    boost::asio::io_context& io_;
    DaemonOptions options_;
    int lock_ = -1;
    std::unique_ptr<HostFunction> host_;
    std::map<std::string, GuestEntry> guests_;
    std::multimap<std::string, std::function<void()>> gone_;
    std::uint64_t log_from_ = 0;  // what `proa dmesg --clear` has left behind
    CommandRegistry commands_;
    std::unique_ptr<CommandServer> server_;
    boost::asio::signal_set children_;
};

}  // namespace proa::vmm
