// `proa console`: the terminal, raw, joined to the guest's console.
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>

#include "vmm/cli/client.hpp"

namespace proa::vmm::cli {
namespace {

constexpr char kEscape = 0x1d;  // Ctrl-]

class RawTerminal {
  public:
    RawTerminal() {
        if (::isatty(0) == 0 || ::tcgetattr(0, &old_) != 0) return;
        termios raw = old_;
        ::cfmakeraw(&raw);
        active_ = ::tcsetattr(0, TCSANOW, &raw) == 0;
    }
    ~RawTerminal() {
        if (active_) ::tcsetattr(0, TCSANOW, &old_);
    }

  private:
    termios old_{};
    bool active_ = false;
};

}  // namespace

int console(const Context& c, const std::string& guest) {
    Json where;
    if (const int e = ask(c, "socket", {{"guest", guest}}, where); e != kOk) return e;
    int fd = -1;
    auto r = call(where.at("path"), "console", Json::object(), {}, &fd);
    if (!r) return complain(r.error());
    std::fprintf(stderr, "[connected to %s; Ctrl-] leaves]\n", guest.c_str());
    {
        const RawTerminal raw;
        pollfd p[2] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
        for (char b[4096];;) {
            if (::poll(p, 2, -1) < 0) break;
            if ((p[1].revents & (POLLIN | POLLHUP)) != 0) {
                const ssize_t n = ::recv(fd, b, sizeof(b), 0);
                if (n <= 0 || ::write(1, b, static_cast<std::size_t>(n)) < 0) break;
            }
            if ((p[0].revents & (POLLIN | POLLHUP)) != 0) {
                const ssize_t n = ::read(0, b, sizeof(b));
                if (n <= 0) break;
                bool leave = false;
                for (ssize_t i = 0; i < n; ++i) leave = leave || b[i] == kEscape;
                if (leave || ::send(fd, b, static_cast<std::size_t>(n), MSG_NOSIGNAL) < 0) break;
            }
        }
    }
    ::close(fd);
    std::fprintf(stderr, "\n[disconnected]\n");
    return kOk;
}

}  // namespace proa::vmm::cli
