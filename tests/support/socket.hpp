// Loopback sockets for tests that stand between two peers.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>

namespace proa::test {

class Socket {
  public:
    explicit Socket(int fd) : fd_(fd) {
        const int on = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    ~Socket() { ::close(fd_); }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    static std::shared_ptr<Socket> connect(std::uint16_t port) {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const sockaddr_in a = loopback(port);
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof(a)) == 0)
            return std::make_shared<Socket>(fd);
        ::close(fd);
        return nullptr;
    }
    static sockaddr_in loopback(std::uint16_t port) {
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_port = htons(port);
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return a;
    }
    bool read(void* to, std::size_t n) {
        return n == 0 || ::recv(fd_, to, n, MSG_WAITALL) == static_cast<ssize_t>(n);
    }
    bool write(const void* from, std::size_t n) {
        return ::send(fd_, from, n, MSG_NOSIGNAL) == static_cast<ssize_t>(n);
    }
    void end() { ::shutdown(fd_, SHUT_RDWR); }

  private:
    int fd_;
};

class ListeningSocket {
  public:
    ListeningSocket() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in a = Socket::loopback(0);
        socklen_t size = sizeof(a);
        if (::bind(fd_, reinterpret_cast<sockaddr*>(&a), size) == 0 && ::listen(fd_, 16) == 0 &&
            ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size) == 0)
            port_ = ntohs(a.sin_port);
    }
    ~ListeningSocket() { ::close(fd_); }
    ListeningSocket(const ListeningSocket&) = delete;
    ListeningSocket& operator=(const ListeningSocket&) = delete;
    std::uint16_t port() const { return port_; }
    std::shared_ptr<Socket> accept() {
        const int s = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        return s < 0 ? nullptr : std::make_shared<Socket>(s);
    }
    void end() { ::shutdown(fd_, SHUT_RDWR); }

  private:
    int fd_;
    std::uint16_t port_ = 0;
};

}  // namespace proa::test
