// A real etcd for a test: one member on the loopback, its data in memory, dead with the test whatever happens to it.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "remus/etcd_witness.hpp"
#include "tests/support/socket.hpp"

namespace proa::test {

class EtcdProcess {
  public:
    EtcdProcess() {
        const auto shm = std::filesystem::path("/dev/shm");
        const auto base = std::filesystem::is_directory(shm) ? shm : std::filesystem::temp_directory_path();
        std::string name = (base / "proa-etcd-XXXXXX").string();
        directory_ = ::mkdtemp(name.data());
        // Between finding a free port and etcd's use of it somebody else may take it: etcd then ends, and the next is tried.
        for (int i = 0; i < 5 && !up_; ++i) {
            port_ = ListeningSocket().port();
            start();
            up_ = wait_up();
        }
    }
    ~EtcdProcess() {
        end();
        std::error_code e;
        std::filesystem::remove_all(directory_, e);
    }
    EtcdProcess(const EtcdProcess&) = delete;
    EtcdProcess& operator=(const EtcdProcess&) = delete;

    bool up() const { return up_; }
    std::uint16_t port() const { return port_; }
    std::string spec() const { return "etcd://127.0.0.1:" + std::to_string(port_); }
    // Why there is none: for a test's message.
    std::string why() const {
        if (!installed())
            return "no `etcd` in PATH: apt-get install etcd-server (./run test installs packages.txt)";
        std::ifstream log(directory_ + "/log");
        const std::string text{std::istreambuf_iterator<char>(log), {}};
        return "etcd did not come up; it said:\n" +
               text.substr(text.size() - std::min<std::size_t>(text.size(), 2000));
    }

  private:
    static bool installed() { return std::system("command -v etcd >/dev/null 2>&1") == 0; }
    void start() {
        const std::string client = "http://127.0.0.1:" + std::to_string(port_), log = directory_ + "/log";
        const std::string data = directory_ + "/data" + std::to_string(port_);
        const std::array<const char*, 18> arguments{"etcd",
                                                    "--data-dir",
                                                    data.c_str(),
                                                    "--listen-client-urls",
                                                    client.c_str(),
                                                    "--advertise-client-urls",
                                                    client.c_str(),
                                                    "--listen-peer-urls",
                                                    "http://127.0.0.1:0",
                                                    "--heartbeat-interval",
                                                    "50",
                                                    "--election-timeout",
                                                    "500",
                                                    "--logger",
                                                    "zap",
                                                    "--log-level",
                                                    "warn",
                                                    nullptr};
        const pid_t parent = ::getpid();
        pid_ = ::fork();
        if (pid_ != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(1);  // it has died meanwhile
        const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        ::dup2(out, 1);
        ::dup2(out, 2);
        ::execvp("etcd", const_cast<char* const*>(arguments.data()));
        ::_exit(127);
    }
    bool wait_up() {
        const auto end_of_patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        auto witness = remus::make_witness(spec(), std::chrono::seconds(5));
        while (witness && std::chrono::steady_clock::now() < end_of_patience) {
            if ((*witness)->look("nobody")) return true;
            if (::waitpid(pid_, nullptr, WNOHANG) == pid_) break;
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        end();
        return false;
    }
    void end() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

    std::string directory_;
    std::uint16_t port_ = 0;
    pid_t pid_ = -1;
    bool up_ = false;
};

}  // namespace proa::test
