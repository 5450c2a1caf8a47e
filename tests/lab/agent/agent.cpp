// lab-agent [PORT [echo]]: the lab's way into a control domain or guest. Runs each connection's first line with sh and
// sends back its output, then a NUL byte and the exit code; `echo` sends everything back. For test machines only.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

void echo(int s) {
    char b[4096];
    for (ssize_t n; (n = ::read(s, b, sizeof(b))) > 0;)
        if (::write(s, b, static_cast<std::size_t>(n)) != n) break;
    ::_exit(0);
}

void serve(int s) {
    std::string line;
    for (char c; ::read(s, &c, 1) == 1 && c != '\n';) line += c;
    const int pid = ::fork();
    if (pid == 0) {
        ::dup2(s, 1);
        ::dup2(s, 2);
        ::signal(SIGCHLD, SIG_DFL);
        ::signal(SIGINT, SIG_DFL);  // started in the background by a shell: ignored
        ::execl("/bin/sh", "sh", "-c", line.c_str(), static_cast<char*>(nullptr));
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    char end[16];
    const int n = std::snprintf(end, sizeof(end), "%c%d", 0,
                                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    (void)!::write(s, end, static_cast<std::size_t>(n));
    ::_exit(0);
}

}  // namespace

int main(int argc, char** argv) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 2323));
    if (::bind(listener, reinterpret_cast<const sockaddr*>(&a), sizeof(a)) != 0 || ::listen(listener, 16) != 0)
        return 1;
    ::signal(SIGCHLD, SIG_IGN);
    for (;;) {
        const int s = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (s < 0) continue;
        if (::fork() == 0) {
            ::close(listener);
            ::signal(SIGCHLD, SIG_DFL);
            argc > 2 ? echo(s) : serve(s);
        }
        ::close(s);
    }
}
