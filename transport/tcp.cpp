// TCP: the stream and dialling. Blocking sockets: bulk transfer has threads of its own, and a blocking write of a megabyte
// costs the fewest system calls.
#include "transport/tcp.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transport/tls.hpp"

namespace proa::transport {

void set_options(int fd, std::chrono::milliseconds timeout) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    // A quiet connection to a dead peer must end too: it may carry nothing for as long as a guest dirties pages.
    const int idle = 5, interval = 2, count = 3;
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    const auto ms = static_cast<unsigned>(timeout.count());
    ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
    const timeval tv{timeout.count() / 1000, timeout.count() % 1000 * 1000};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

Error socket_error(const char* what, const std::string& peer) {
    const bool timeout = errno == EAGAIN || errno == EWOULDBLOCK || errno == ETIMEDOUT;
    return {timeout ? ErrorKind::Timeout : ErrorKind::Io,
            std::string(what) + " " + peer + ": " + (timeout ? "no answer in time" : std::strerror(errno)),
            "is the peer up and the network between the hosts whole?"};
}

TcpStream::~TcpStream() {
    ::close(fd_);
}

Result<void> TcpStream::read(std::span<std::uint8_t> to) {
    while (!to.empty()) {
        const ssize_t n = ::recv(fd_, to.data(), to.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0)
            return fail(cancelled_ ? ErrorKind::Cancelled : ErrorKind::Closed,
                        "connection to " + peer_ + " was closed");
        if (n < 0) return tl::unexpected(socket_error("reading from", peer_));
        to = to.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<void> TcpStream::wait() {
    pollfd p{fd_, POLLIN, 0};
    while (::poll(&p, 1, -1) < 0) {  // EINTR; cancel() wakes it by ending the connection
    }
    return {};
}

Result<void> TcpStream::write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
    iovec v[2] = {{const_cast<std::uint8_t*>(a.data()), a.size()},
                  {const_cast<std::uint8_t*>(b.data()), b.size()}};
    msghdr m{};
    m.msg_iov = v;
    m.msg_iovlen = 2;
    for (std::size_t left = a.size() + b.size(); left > 0;) {
        const ssize_t n = ::sendmsg(fd_, &m, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return tl::unexpected(socket_error("writing to", peer_));
        left -= static_cast<std::size_t>(n);
        advance(v, static_cast<std::size_t>(n));
    }
    return {};
}

void TcpStream::cancel() {
    cancelled_ = true;
    ::shutdown(fd_, SHUT_RDWR);
}

void TcpStream::advance(iovec (&v)[2], std::size_t n) {
    for (auto& part : v) {
        const std::size_t take = std::min(part.iov_len, n);
        part.iov_base = static_cast<std::uint8_t*>(part.iov_base) + take;
        part.iov_len -= take;
        n -= take;
    }
}

namespace {

Result<int> connect_to(const std::string& host, std::uint16_t port, std::chrono::milliseconds timeout) {
    AddressList list;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    if (const int e = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list.first); e != 0)
        return fail(ErrorKind::Refused, "cannot resolve " + host + ": " + ::gai_strerror(e),
                    "use a name or an address of the peer");
    Error last{ErrorKind::Refused, "no address for " + host, ""};
    for (const addrinfo* a = list.first; a != nullptr; a = a->ai_next) {
        const int fd = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) continue;
        int e = ::connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
        if (e == EINPROGRESS) {
            pollfd p{fd, POLLOUT, 0};
            socklen_t size = sizeof(e);
            if (::poll(&p, 1, static_cast<int>(timeout.count())) == 0)
                e = ETIMEDOUT;
            else
                ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size);
        }
        if (e == 0) {
            ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
            return fd;
        }
        errno = e;
        last = socket_error("connecting to", host + " port " + std::to_string(port));
        if (e == ECONNREFUSED) last.remedy = "is proad running there?";
        ::close(fd);
    }
    return tl::unexpected(last);
}

}  // namespace

Result<std::unique_ptr<Channel>> dial(const std::string& host, std::uint16_t port,
                                      const ChannelOptions& options) {
    auto fd = connect_to(host, port, options.connect_timeout);
    if (!fd) return tl::unexpected(fd.error());
    set_options(*fd, options.io_timeout);
    auto s = secure(std::make_unique<TcpStream>(*fd, host), options, true, host);
    if (!s) return tl::unexpected(s.error());
    return std::make_unique<Channel>(std::move(*s), host);
}

}  // namespace proa::transport
