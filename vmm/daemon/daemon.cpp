#include "vmm/daemon/daemon.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>

namespace proa::vmm {
namespace {

// A restarted proad opens its guests' memory anew: it must not go away with a killed proa-vm.
int memfd_of(int pid) {
    const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
    int found = -1;
    if (DIR* d = ::opendir(directory.c_str())) {
        while (const dirent* e = ::readdir(d)) {
            char target[256] = {};
            const std::string link = directory + "/" + e->d_name;
            if (::readlink(link.c_str(), target, sizeof(target) - 1) > 0 &&
                std::strstr(target, "memfd:") != nullptr && found < 0)
                found = ::open(link.c_str(), O_RDWR | O_CLOEXEC);
        }
        ::closedir(d);
    }
    return found;
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::create(boost::asio::io_context& io, DaemonOptions options) {
    for (const char* d : {"", "/vm", "/sessions", "/log"})
        ::mkdir((options.run + d).c_str(), d[0] == 0 ? 0755 : 0700);
    auto host = HostFunction::open();
    if (!host) return tl::unexpected(host.error());
    std::unique_ptr<Daemon> d(new Daemon(io, std::move(options)));
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
Daemon::~Daemon() = default;

void Daemon::adopt() {
    DIR* d = ::opendir((options_.run + "/vm").c_str());
    if (d == nullptr) return;
    while (const dirent* e = ::readdir(d)) {
        std::string name = e->d_name;
        if (name.size() < 6 || name.substr(name.size() - 5) != ".sock") continue;
        name.resize(name.size() - 5);
        auto info = call(socket_of(name), "info", Json::object());
        if (!info) {
            ::unlink(socket_of(name).c_str());
            continue;
        }
        GuestEntry g{name, info->value("slot", 0u), info->value("pid", 0), -1, false, ""};
        g.memfd = memfd_of(g.pid);
        guests_[name] = g;
        spdlog::info("found {} running in slot {}", name, g.slot);
    }
    ::closedir(d);
}

void Daemon::reap() {
    int status = 0;
    for (int pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
        for (auto i = guests_.begin(); i != guests_.end(); ++i) {
            if (i->second.pid != pid) continue;
            if (WIFSIGNALED(status))
                spdlog::error("{}: proa-vm was killed by signal {}; its guest is stopped", i->first,
                              WTERMSIG(status));
            else
                spdlog::info("{}: ended (exit code {})", i->first, WEXITSTATUS(status));
            ::unlink(socket_of(i->first).c_str());
            if (i->second.memfd >= 0) ::close(i->second.memfd);
            guests_.erase(i);
            break;
        }
    children_.async_wait([this](auto e, int) {
        if (!e) reap();
    });
}

const GuestEntry* Daemon::find(const std::string& name) {
    const auto i = guests_.find(name);
    if (i == guests_.end()) return nullptr;
    if (::kill(i->second.pid, 0) != 0 && errno == ESRCH) {  // adopted ones are not our children
        if (i->second.memfd >= 0) ::close(i->second.memfd);
        guests_.erase(i);
        return nullptr;
    }
    return &i->second;
}

const GuestEntry* Daemon::find_session(const std::string& session) {
    for (const auto& [name, g] : guests_)
        if (g.session == session) return find(name);
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

Result<GuestEntry> Daemon::spawn(const GuestConfig& c, const StartRequest& r) {
    auto slot = free_slot();
    if (!slot) return tl::unexpected(slot.error());
    auto memfd = create_huge_memfd(c.name, (c.memory_mib << 20) + HugeMemory::kChunk);
    if (!memfd) return tl::unexpected(memfd.error());
    const std::string base = options_.run + "/log/" + c.name, config = options_.run + "/vm/" + c.name + ".cfg";
    std::ofstream(config) << c.text << "\n";
    std::vector<std::string> args{options_.vm_program,
                                  config,
                                  "--slot",
                                  std::to_string(*slot),
                                  "--memfd",
                                  std::to_string(*memfd),
                                  "--run-dir",
                                  options_.run + "/vm",
                                  "--console-log",
                                  base + ".console",
                                  "--sessions",
                                  sessions_directory()};
    if (r.paused) args.push_back("--paused");
    if (r.incoming) args.insert(args.end(), {"--incoming", "--policy", r.policy_hex});
    std::vector<char*> argv;
    for (auto& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    const int log = ::open((base + ".log").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    const int pid = ::fork();
    if (pid == 0) {
        ::setsid();
        ::fcntl(*memfd, F_SETFD, 0);
        ::dup2(log, 1);
        ::dup2(log, 2);
        sigset_t none;
        sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::execvp(argv[0], argv.data());
        ::_exit(127);
    }
    ::close(log);
    if (pid < 0) {
        ::close(*memfd);
        return fail(std::string("cannot start proa-vm: ") + std::strerror(errno));
    }
    return GuestEntry{c.name, *slot, pid, *memfd, r.incoming, r.session};
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

void Daemon::wait_ready(const std::string& name, unsigned tries, std::vector<std::string> warnings,
                        std::function<void(Result<Json>)> ready) {
    const GuestEntry* g = find(name);
    if (g == nullptr || tries == 0) {
        std::string why = tail_of_log(name);
        if (g != nullptr) ::kill(g->pid, SIGKILL);
        return ready(fail(why.empty() ? name + ": proa-vm did not start" : why,
                          why.empty() ? "see " + options_.run + "/log/" + name + ".log" : ""));
    }
    async_call(
        io_, socket_of(name), "info", Json::object(), {}, [=, this](tl::expected<Json, CallError> r) mutable {
            if (r) {
                (*r)["warnings"] = warnings;
                return ready(std::move(*r));
            }
            auto timer = std::make_shared<boost::asio::steady_timer>(io_, std::chrono::milliseconds(20));
            timer->async_wait([=, this, keep = timer](auto) { wait_ready(name, tries - 1, warnings, ready); });
        });
}

void Daemon::start(const StartRequest& r, std::function<void(Result<Json>)> ready) {
    auto c = parse_config(r.config_text, r.file, r.overrides);
    if (!c) return ready(tl::unexpected(c.error()));
    if (!std::regex_match(c->name, std::regex("[A-Za-z0-9_.+-]{1,47}")) || c->name[0] == '.')
        return ready(fail("name: '" + c->name + "' is not a usable guest name",
                          "letters, digits, _ . + - only, at most 47"));
    if (find(c->name) != nullptr)
        return ready(fail("a guest named " + c->name + " runs here already",
                          "choose another name, or proa destroy " + c->name));
    if (!r.incoming && ::access(c->kernel.c_str(), R_OK) != 0)
        return ready(fail("kernel: cannot read " + c->kernel + ": " + std::strerror(errno),
                          "correct `kernel` in " + r.file));
    auto g = spawn(*c, r);
    if (!g) return ready(tl::unexpected(g.error()));
    guests_[c->name] = *g;
    wait_ready(c->name, 1000, c->warnings, std::move(ready));
}

}  // namespace proa::vmm
