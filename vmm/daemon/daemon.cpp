#include "vmm/daemon/daemon.hpp"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "vmm/daemon/spawn.hpp"

namespace proa::vmm {
namespace {

// A guest that boots has its memory zeroed and its kernel loaded before it serves commands.
constexpr std::chrono::milliseconds kStart{30'000}, kStartPerMib{10};

constexpr std::size_t kLongestName = 47;
constexpr const char* kNameLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+-";

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::create(boost::asio::io_context& io, DaemonOptions options) {
    for (const char* d : {"", "/vm", "/log"}) ::mkdir((options.run + d).c_str(), d[0] == 0 ? 0755 : 0700);
    std::error_code made;
    std::filesystem::create_directories(options.state, made);
    if (::mkdir((options.state + "/sessions").c_str(), 0700) != 0 && errno != EEXIST)
        return fail("cannot write " + options.state + ": " + std::strerror(errno), "choose a --state-dir");
    std::unique_ptr<Daemon> d(new Daemon(io, std::move(options)));
    if (auto r = d->lock(); !r) return tl::unexpected(r.error());
    auto host = HostFunction::open();
    if (!host) return tl::unexpected(host.error());
    d->host_ = std::move(*host);
    d->adopt();
    d->register_commands();
    auto server = CommandServer::listen(io, d->options_.run + "/proad.sock", d->commands_);
    if (!server) return tl::unexpected(server.error());
    d->server_ = std::move(*server);
    d->reap();
    return d;
}

Daemon::Daemon(boost::asio::io_context& io, DaemonOptions options)
    : io_(io), options_(std::move(options)), children_(io, SIGCHLD) {}
Daemon::~Daemon() {
    server_.reset();
    if (lock_ >= 0) ::close(lock_);
}

void Daemon::reap() {
    int status = 0;
    for (int pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
        for (const auto& [name, g] : guests_) {
            if (g.pid != pid) continue;
            if (WIFSIGNALED(status))
                spdlog::error("{}: proa-vm was killed by signal {}; its guest is stopped", name,
                              WTERMSIG(status));
            else
                spdlog::info("{}: ended (exit code {})", name, WEXITSTATUS(status));
            forget(std::string(name));
            break;
        }
    children_.async_wait([this](auto e, int) {
        if (!e) reap();
    });
}

// The process is gone, and with its /dev/uioN so is the guest (losing Bus Master waits for that): its memory can go.
void Daemon::forget(const std::string& name) {
    for (const char* kind : {"sock", "cfg", "session"}) ::unlink(file_of(name, kind).c_str());
    if (const auto i = guests_.find(name); i != guests_.end()) {
        if (i->second.memfd >= 0) ::close(i->second.memfd);
        guests_.erase(i);
    }
    std::vector<std::function<void()>> waiting;
    const auto [first, last] = gone_.equal_range(name);
    for (auto i = first; i != last; ++i) waiting.push_back(std::move(i->second));
    gone_.erase(first, last);
    for (auto& f : waiting) f();
}

void Daemon::when_gone(const std::string& name, std::function<void()> f) {
    if (find(name) == nullptr) return f();
    gone_.emplace(name, std::move(f));
}

void Daemon::kill_guest(const std::string& name) const {
    if (const GuestEntry* g = find(name)) ::kill(g->pid, SIGKILL);
}

const GuestEntry* Daemon::find(const std::string& name) const {
    const auto i = guests_.find(name);
    return i == guests_.end() ? nullptr : &i->second;
}

const GuestEntry* Daemon::find_session(const std::string& session) const {
    for (const auto& [name, g] : guests_)
        if (g.session == session) return &g;
    return nullptr;
}

Result<unsigned> Daemon::free_slot() {
    auto used = host_->guests();
    if (!used) return tl::unexpected(used.error());
    for (unsigned s = 1; s <= abi::kGuestSlots; ++s) {
        bool taken = (*used)[s - 1].phase != abi::GuestPhase::None;
        for (const auto& [name, g] : guests_) taken = taken || g.slot == s;
        if (!taken) return s;
    }
    return fail("all " + std::to_string(abi::kGuestSlots) + " guest slots are in use");
}

Result<int> Daemon::spawn(const GuestConfig& c, const StartRequest& r) {
    auto slot = free_slot();
    if (!slot) return tl::unexpected(slot.error());
    auto memfd = create_huge_memfd(c.name, (c.memory_mib << 20) + HugeMemory::kChunk);
    if (!memfd) return tl::unexpected(memfd.error());
    const std::string base = options_.run + "/log/" + c.name, config = file_of(c.name, "cfg");
    std::ofstream(config) << c.text << "\n";
    if (!r.session.empty()) std::ofstream(file_of(c.name, "session")) << r.session << "\n";
    std::vector<std::string> args{
        options_.vm_program,  config,          "--slot",          std::to_string(*slot), "--run-dir",
        options_.run + "/vm", "--console-log", base + ".console", "--sessions",          sessions_directory()};
    if (r.paused) args.push_back("--paused");
    if (r.incoming) args.insert(args.end(), {"--incoming", "--policy", r.policy_hex});
    const auto vm = spawn_vm(std::move(args), *memfd, base + ".log");
    if (!vm) {
        ::close(*memfd);
        forget(c.name);  // its files
        return tl::unexpected(vm.error());
    }
    guests_[c.name] =
        GuestEntry{c.name, *slot, vm->pid, *memfd, r.incoming, r.session, disk_paths(c), c.auto_reprotect};
    return vm->ready;
}

std::string Daemon::tail_of_log(const std::string& name) const {
    std::ifstream f(options_.run + "/log/" + name + ".log");
    std::string text(std::istreambuf_iterator<char>(f), {}), last;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        if (line.find("error") != std::string::npos)
            last = line.substr(line.rfind("] ") == std::string::npos ? 0 : line.rfind("] ") + 2);
        at = end + 1;
    }
    return last;
}

void Daemon::did_not_start(const std::string& name, int pid, const Ready& ready) {
    const std::string why = tail_of_log(name);
    if (const GuestEntry* g = find(name); g != nullptr && g->pid == pid) kill_guest(name);
    ready(fail(why.empty() ? name + ": proa-vm did not start" : why,
               why.empty() ? "see " + options_.run + "/log/" + name + ".log" : ""));
}

void Daemon::wait_ready(const GuestConfig& c, int fd, const Ready& ready) {
    struct Wait {
        boost::asio::posix::stream_descriptor pipe;
        boost::asio::steady_timer limit;
        std::string line;
    };
    const auto w = std::make_shared<Wait>(
        Wait{{io_, fd},
             boost::asio::steady_timer(io_, kStart + static_cast<long>(c.memory_mib) * kStartPerMib),
             {}});
    w->limit.async_wait([w](const boost::system::error_code& e) {
        if (!e) w->pipe.cancel();
    });
    // All it has to say comes through the pipe: to ask it then would be to ask a guest that may have powered off.
    const auto served = [this, w, ready, name = c.name, warnings = c.warnings, pid = guests_[c.name].pid](
                            const boost::system::error_code& e, std::size_t) {
        w->limit.cancel();
        Json guest = e ? Json() : Json::parse(w->line, nullptr, false);
        if (!guest.is_object()) return did_not_start(name, pid, ready);
        guest["warnings"] = warnings;
        ready(std::move(guest));
    };
    boost::asio::async_read_until(w->pipe, boost::asio::dynamic_buffer(w->line, kLongestLine), '\n', served);
}

tl::expected<GuestConfig, CallError> Daemon::check(const StartRequest& r) const {
    const auto no = [](const char* code, std::string what, std::string remedy) {
        return tl::unexpected(CallError{code, {std::move(what), std::move(remedy)}});
    };
    auto c = parse_config(r.config_text, r.file, r.overrides);
    if (!c) return tl::unexpected(CallError{"invalid", c.error()});
    if (c->name.empty() || c->name.size() > kLongestName || c->name[0] == '.' ||
        c->name.find_first_not_of(kNameLetters) != std::string::npos)
        return no("invalid", r.file + ": name: '" + c->name + "' is not a usable guest name",
                  "letters, digits, _ . + - only, at most 47");
    if (find(c->name) != nullptr)
        return no("refused", "a guest named " + c->name + " runs here already",
                  "choose another name, or proa destroy " + c->name);
    if (r.incoming) return *c;
    for (const auto& [key, path] : {std::pair("kernel", c->kernel), std::pair("ramdisk", c->ramdisk)}) {
        if (path.empty()) continue;
        if (path[0] != '/')
            return no("invalid", r.file + ": " + key + ": '" + path + "' is not an absolute path",
                      "proad does not know the directory you are in");
        if (::access(path.c_str(), R_OK) != 0)
            return no("invalid", r.file + ": " + key + ": cannot read " + path + ": " + std::strerror(errno),
                      std::string("correct `") + key + "` in " + r.file);
    }
    return *c;
}

void Daemon::start(const StartRequest& r, std::function<void(Result<Json>)> ready) {
    auto c = check(r);
    if (!c) return ready(tl::unexpected(c.error().error));
    const auto fd = spawn(*c, r);
    if (!fd) return ready(tl::unexpected(fd.error()));
    wait_ready(*c, *fd, ready);
}

}  // namespace proa::vmm
