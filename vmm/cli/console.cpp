// `proa console`: the terminal, raw, joined to the guest's console.
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "vmm/cli/verbs.hpp"

namespace proa::vmm::cli {
namespace {

constexpr char kEscape = 0x1d;  // Ctrl-]

volatile sig_atomic_t resized = 0, ending = 0;

// Raw while it lives; signals that would end the program end the loop instead, so that it is always put back.
class RawTerminal {
  public:
    RawTerminal() {
        struct sigaction a {};
        a.sa_handler = [](int s) { (s == SIGWINCH ? resized : ending) = 1; };
        for (const int s : {SIGWINCH, SIGTERM, SIGHUP, SIGINT}) ::sigaction(s, &a, nullptr);
        if (::isatty(0) == 0 || ::tcgetattr(0, &old_) != 0) return;
        termios raw = old_;
        ::cfmakeraw(&raw);
        active_ = ::tcsetattr(0, TCSANOW, &raw) == 0;
    }
    ~RawTerminal() {
        if (active_) ::tcsetattr(0, TCSADRAIN, &old_);
    }

  private:
    termios old_{};
    bool active_ = false;
};

Json window() {
    winsize w{};
    if (::isatty(1) == 0 || ::ioctl(1, TIOCGWINSZ, &w) != 0) return Json::object();
    return {{"columns", w.ws_col}, {"rows", w.ws_row}};
}

bool write_all(const char* b, std::size_t n) {
    while (n > 0) {
        const ssize_t w = ::write(1, b, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        b += w;
        n -= static_cast<std::size_t>(w);
    }
    return true;
}

// Why it ended.
const char* join(int fd, const std::string& path) {
    pollfd p[2] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
    for (char b[4096]; ending == 0;) {
        if (resized != 0) {
            resized = 0;
            (void)call(path, "console-size", window());
        }
        if (::poll(p, 2, -1) < 0) {
            if (errno == EINTR) continue;
            break;
        }
        if ((p[1].revents & (POLLIN | POLLHUP)) != 0) {
            const ssize_t n = ::recv(fd, b, sizeof(b), 0);
            if (n <= 0) return "the guest has ended, or moved to another host";
            if (!write_all(b, static_cast<std::size_t>(n))) return "nobody reads standard output";
        }
        if ((p[0].revents & (POLLIN | POLLHUP)) != 0) {
            const ssize_t n = ::read(0, b, sizeof(b));
            if (n <= 0) return "end of input";
            const char* stop = std::find(b, b + n, kEscape);
            if (stop > b && ::send(fd, b, static_cast<std::size_t>(stop - b), MSG_NOSIGNAL) < 0)
                return "the guest has ended, or moved to another host";
            if (stop != b + n) return "detached";
        }
    }
    return "ended by a signal";
}

}  // namespace

int console(const Context& c, const std::string& guest) {
    Json where;
    if (const int e = ask(c, "socket", {{"guest", guest}}, where); e != kOk) return e;
    int fd = -1;
    const std::string path = where.at("path");
    auto r = call(path, "console", window(), {}, &fd);
    if (!r) return complain(r.error());
    std::fprintf(stderr, "[connected to %s; Ctrl-] leaves]\n", guest.c_str());
    const char* why = "";
    {
        const RawTerminal raw;
        why = join(fd, path);
    }
    ::close(fd);
    std::fprintf(stderr, "\n[%s: %s]\n", guest.c_str(), why);
    return kOk;
}

}  // namespace proa::vmm::cli
