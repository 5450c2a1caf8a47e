// Accepting peers: one thread that accepts, one a connection.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <list>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "transport/tcp.hpp"
#include "transport/tls.hpp"

namespace proa::transport {
namespace {

Result<int> bound_socket(const std::string& address, std::uint16_t port) {
    AddressList list;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    if (const int e = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list.first); e != 0)
        return fail(ErrorKind::Io, "cannot listen on " + address + ": " + ::gai_strerror(e));
    const int fd = ::socket(list.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1, off = 0;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off,
                 sizeof(off));  // "::" takes IPv4 too, whatever the host's default
    if (fd >= 0 && ::bind(fd, list.first->ai_addr, list.first->ai_addrlen) == 0 && ::listen(fd, 16) == 0)
        return fd;
    auto e = socket_error("listening on", address + " port " + std::to_string(port));
    if (fd >= 0) ::close(fd);
    return tl::unexpected(e);
}

Result<int> listening_socket(const std::string& address, std::uint16_t port) {
    if (!address.empty()) return bound_socket(address, port);
    if (auto both = bound_socket("::", port)) return both;
    return bound_socket("0.0.0.0", port);  // a host without IPv6
}

// An IPv4 peer of a socket that takes both is ::ffff:10.0.0.1.
std::string plain_name(const std::string& address) {
    constexpr std::string_view kMapped = "::ffff:";
    return address.starts_with(kMapped) ? address.substr(kMapped.size()) : address;
}

}  // namespace

struct Listener::Impl {
    int fd = -1;
    ChannelOptions options;
    Handler handler;
    Refused refused;
    std::atomic<bool> stop{false};
    std::mutex mutex;
    std::list<std::pair<std::thread, std::shared_ptr<std::atomic<bool>>>> sessions;
    std::thread acceptor;

    void accept_loop() {
        while (!stop) {
            pollfd p{fd, POLLIN, 0};
            if (::poll(&p, 1, -1) <= 0) continue;
            sockaddr_storage from{};
            socklen_t size = sizeof(from);
            const int s = ::accept4(fd, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC);
            if (s < 0) {
                if (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(10));  // out of descriptors
                continue;
            }
            char name[NI_MAXHOST] = "?";
            ::getnameinfo(reinterpret_cast<const sockaddr*>(&from), size, name, sizeof(name), nullptr, 0,
                          NI_NUMERICHOST);
            reap();
            const std::string peer = plain_name(name);
            if (sessions.size() >= kMostConnections) {
                ::close(s);
                if (refused) refused({ErrorKind::Refused, peer + ": too many connections", ""});
                continue;
            }
            auto done = std::make_shared<std::atomic<bool>>(false);
            sessions.emplace_back(std::thread([this, s, peer, done] {
                                      serve(s, peer);
                                      *done = true;
                                  }),
                                  done);
        }
    }
    void serve(int s, const std::string& peer) {
        set_options(s, options.io_timeout);
        auto stream = secure(std::make_unique<TcpStream>(s, peer), options, false, peer);
        if (stream)
            handler(std::make_unique<Channel>(std::move(*stream), peer));
        else if (refused)
            refused(stream.error());
    }
    void reap() {
        for (auto i = sessions.begin(); i != sessions.end();) {
            if (!*i->second) {
                ++i;
                continue;
            }
            i->first.join();
            i = sessions.erase(i);
        }
    }
};

Result<std::unique_ptr<Listener>> Listener::listen(const std::string& address, std::uint16_t port,
                                                   const ChannelOptions& options, Handler handler,
                                                   Refused refused) {
    if (options.tls)
        if (auto c = check_credentials(*options.tls); !c) return tl::unexpected(c.error());
    auto fd = listening_socket(address, port);
    if (!fd) return tl::unexpected(fd.error());
    auto impl = std::make_unique<Impl>();
    impl->fd = *fd;
    impl->options = options;
    impl->handler = std::move(handler);
    impl->refused = std::move(refused);
    impl->acceptor = std::thread([i = impl.get()] { i->accept_loop(); });
    return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

Listener::Listener(std::unique_ptr<Impl> i) : impl_(std::move(i)) {}

Listener::~Listener() {
    impl_->stop = true;
    ::shutdown(impl_->fd, SHUT_RDWR);  // wakes the acceptor
    impl_->acceptor.join();
    for (auto& s : impl_->sessions) s.first.join();
    ::close(impl_->fd);
}

std::uint16_t Listener::port() const {
    sockaddr_storage a{};
    socklen_t size = sizeof(a);
    ::getsockname(impl_->fd, reinterpret_cast<sockaddr*>(&a), &size);
    return ntohs(a.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&a)->sin6_port
                                         : reinterpret_cast<const sockaddr_in*>(&a)->sin_port);
}

}  // namespace proa::transport
