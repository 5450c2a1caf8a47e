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
#include <utility>

#include "vmm/cli/verbs.hpp"

namespace proa::vmm::cli {
namespace {

constexpr char kEscape = 0x1d;  // Ctrl-]

volatile sig_atomic_t resized = 0, ending = 0;
volatile sig_atomic_t revocable = -1;  // the socket of a request that is taken back if the program is to end

// Signals that would end the program end what it waits for instead.
void catch_endings() {
    struct sigaction a {};
    a.sa_handler = [](int) {
        ending = 1;
        if (revocable >= 0) ::shutdown(revocable, SHUT_WR);
    };
    for (const int s : {SIGTERM, SIGHUP, SIGINT}) ::sigaction(s, &a, nullptr);
}

// Raw while it lives; it is always put back.
class RawTerminal {
  public:
    RawTerminal() {
        catch_endings();
        struct sigaction a {};
        a.sa_handler = [](int) { resized = 1; };
        a.sa_flags = SA_RESTART;  // but poll(), which never is
        ::sigaction(SIGWINCH, &a, nullptr);
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

// `begin` runs between the two; a code other than kOk ends it there.
int attach(const Context& c, const std::string& guest, const std::function<int()>& begin) {
    Json where;
    if (const int e = ask(c, "socket", {{"guest", guest}}, where); e != kOk) return e;
    int fd = -1;
    const std::string path = where.at("path");
    auto r = call(path, "console", window(), {}, &fd);
    if (!r) return complain(r.error());
    if (const int e = begin(); e != kOk) {
        ::close(fd);
        return e;
    }
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

}  // namespace

int console(const Context& c, const std::string& guest) {
    return attach(c, guest, [] { return kOk; });
}

int console_from_start(const Context& c, Json asked, const std::function<void(const Json&)>& started) {
    catch_endings();
    const bool run = !std::exchange(asked["paused"], true).get<bool>();
    // Either proad answers, and the guest is there; or it sees that nobody waits any more, and destroys it.
    auto guest = call(c.socket, "create", asked, {}, nullptr, [](int fd) {
        revocable = fd;
        if (ending != 0 && fd >= 0) ::shutdown(fd, SHUT_WR);
    });
    const auto cancelled = [] {
        std::fprintf(stderr, "proa: cancelled; nothing of the guest stays\n");
        return static_cast<int>(kCancelled);
    };
    if (!guest) return ending != 0 ? cancelled() : complain(guest.error());
    const std::string name = guest->value("name", "");
    const auto begin = [&]() -> int {
        if (ending != 0) return kCancelled;
        if (run) {
            const auto r = call(c.socket, "guest", {{"guest", name}, {"cmd", "unpause"}});
            if (!r && r.error().code != "refused")
                return complain(r.error());  // refused: somebody else let it run
            (*guest)["state"] = "running";
        }
        started(*guest);
        return kOk;
    };
    const int e = attach(c, name, begin);
    if (e == kOk) return e;
    const auto gone = call(c.socket, "guest", {{"guest", name}, {"cmd", "destroy"}});
    if (!gone && gone.error().code != "not-found") return complain(gone.error());
    return ending != 0 ? cancelled() : e;
}

}  // namespace proa::vmm::cli
