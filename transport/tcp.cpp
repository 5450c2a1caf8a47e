// TCP and TLS streams, dialling and listening. OpenSSL through Asio for the context, blocking sockets for the data:
// bulk transfer has threads of its own, and a blocking write of a megabyte costs the fewest system calls.
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <fcntl.h>
#include <algorithm>
#include <atomic>
#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <list>
#include <mutex>
#include <thread>

#include "transport/channel.hpp"
#include "transport/socket_bio.hpp"

namespace proa::transport {
namespace {

namespace ssl = boost::asio::ssl;

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

std::string tls_reason() {
    // No word from OpenSSL: then it was the socket (a dead link: ETIMEDOUT), or plainly the end.
    char text[256] = "the peer ended it";
    if (errno != 0) std::snprintf(text, sizeof(text), "%s", std::strerror(errno));
    if (const unsigned long e = ERR_get_error(); e != 0) ERR_error_string_n(e, text, sizeof(text));
    ERR_clear_error();
    return text;
}

class TcpStream : public ByteStream {
  public:
    TcpStream(int fd, std::string peer) : fd_(fd), peer_(std::move(peer)) {}
    ~TcpStream() override { ::close(fd_); }

    Result<void> read(std::span<std::uint8_t> to) override {
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
    Result<void> wait() override {
        pollfd p{fd_, POLLIN, 0};
        while (::poll(&p, 1, -1) < 0) {  // EINTR; cancel() wakes it by ending the connection
        }
        return {};
    }
    Result<void> write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) override {
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
    void cancel() override {
        cancelled_ = true;
        ::shutdown(fd_, SHUT_RDWR);
    }
    int fd() const { return fd_; }

  private:
    static void advance(iovec (&v)[2], std::size_t n) {
        for (auto& part : v) {
            const std::size_t take = std::min(part.iov_len, n);
            part.iov_base = static_cast<std::uint8_t*>(part.iov_base) + take;
            part.iov_len -= take;
            n -= take;
        }
    }
    int fd_;
    std::string peer_;
    std::atomic<bool> cancelled_{false};
};

class TlsStream final : public ByteStream {
  public:
    TlsStream(std::unique_ptr<TcpStream> tcp, std::shared_ptr<ssl::context> context, std::string peer,
              std::chrono::milliseconds timeout)
        : tcp_(std::move(tcp)),
          context_(std::move(context)),
          peer_(std::move(peer)),
          timeout_(timeout),
          ssl_(SSL_new(context_->native_handle())) {
        BIO* bio = socket_bio(tcp_->fd());
        SSL_set_bio(ssl_, bio, bio);
    }
    ~TlsStream() override { SSL_free(ssl_); }

    Result<void> handshake(bool client, const std::string& host) {
        if (client) {
            SSL_set_hostflags(ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
            X509_VERIFY_PARAM* p = SSL_get0_param(ssl_);
            if (X509_VERIFY_PARAM_set1_ip_asc(p, host.c_str()) != 1) SSL_set1_host(ssl_, host.c_str());
        }
        // All of it within one timeout: a stranger that dribbles bytes must not hold a thread for ever.
        const auto r = drive("speaking TLS with", std::chrono::steady_clock::now() + timeout_,
                             [&] { return client ? SSL_connect(ssl_) : SSL_accept(ssl_); });
        if (r) return {};
        const long verify = SSL_get_verify_result(ssl_);
        return fail(ErrorKind::Tls,
                    "TLS with " + peer_ + " failed: " +
                        (verify != X509_V_OK ? X509_verify_cert_error_string(verify) : r.error().what),
                    "both hosts need certificates of the same CA that name them: proa keys init HOST...");
    }
    Result<void> read(std::span<std::uint8_t> to) override {
        while (!to.empty()) {
            std::size_t n = 0;
            if (auto r = drive("reading from", {}, [&] { return SSL_read_ex(ssl_, to.data(), to.size(), &n); });
                !r)
                return r;
            to = to.subspan(n);
        }
        return {};
    }
    Result<void> wait() override {
        {
            std::lock_guard lock(mutex_);
            if (SSL_pending(ssl_) > 0) return {};
        }
        return tcp_->wait();
    }
    Result<void> write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) override {
        for (const auto part : {a, b}) {
            std::size_t n = 0;
            if (part.empty()) continue;
            if (auto r =
                    drive("writing to", {}, [&] { return SSL_write_ex(ssl_, part.data(), part.size(), &n); });
                !r)
                return r;
        }
        return {};
    }
    void cancel() override {
        cancelled_ = true;
        tcp_->cancel();
    }

  private:
    // SSL objects don't take a reader and a writer at once: one lock, held for what can be done without waiting. (Held
    // for longer, two peers that both send would wait for each other.) No `deadline`: the timeout, at each wait.
    template <class F>
    Result<void> drive(const char* what, std::optional<std::chrono::steady_clock::time_point> deadline, F&& f) {
        for (;;) {
            int wants;
            {
                std::lock_guard lock(mutex_);
                errno = 0;
                const int n = f();
                if (n == 1) return {};
                wants = SSL_get_error(ssl_, n);
            }
            if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE)
                return fail(cancelled_ ? ErrorKind::Cancelled : ErrorKind::Closed,
                            "connection to " + peer_ + " was closed: " + tls_reason());
            pollfd p{tcp_->fd(), static_cast<short>(wants == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
            const auto left =
                deadline
                    ? std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now())
                    : timeout_;
            if (::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(0, left.count()))) != 0) continue;
            errno = ETIMEDOUT;
            return tl::unexpected(socket_error(what, peer_));
        }
    }
    std::unique_ptr<TcpStream> tcp_;
    std::shared_ptr<ssl::context> context_;
    std::string peer_;
    std::chrono::milliseconds timeout_;
    SSL* ssl_;
    std::mutex mutex_;
    std::atomic<bool> cancelled_{false};
};

Result<std::shared_ptr<ssl::context>> make_context(const Credentials& c) {
    auto context = std::make_shared<ssl::context>(ssl::context::tlsv13);
    const auto step = [](const std::string& file, auto&& f) -> Result<void> {
        try {
            f();
            return {};
        } catch (const boost::system::system_error& e) {
            return fail(ErrorKind::Tls, "cannot use " + file + ": " + e.what(),
                        "make the keys this host needs: proa keys init HOST...");
        }
    };
    SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(context->native_handle(), 0);
    SSL_CTX_set_ciphersuites(context->native_handle(), "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256");
    SSL_CTX_set_mode(context->native_handle(), SSL_MODE_AUTO_RETRY);
    context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
    if (auto r = step(c.ca, [&] { context->load_verify_file(c.ca); }); !r) return tl::unexpected(r.error());
    if (auto r = step(c.certificate, [&] { context->use_certificate_chain_file(c.certificate); }); !r)
        return tl::unexpected(r.error());
    if (auto r = step(c.key, [&] { context->use_private_key_file(c.key, ssl::context::pem); }); !r)
        return tl::unexpected(r.error());
    return context;
}

Result<std::unique_ptr<ByteStream>> secure(std::unique_ptr<TcpStream> tcp, const ChannelOptions& o, bool client,
                                           const std::string& host) {
    if (!o.tls) return std::unique_ptr<ByteStream>(std::move(tcp));
    auto context = make_context(*o.tls);
    if (!context) return tl::unexpected(context.error());
    auto tls = std::make_unique<TlsStream>(std::move(tcp), *context, host, o.io_timeout);
    if (auto r = tls->handshake(client, host); !r) return tl::unexpected(r.error());
    return std::unique_ptr<ByteStream>(std::move(tls));
}

struct AddressList {
    addrinfo* first = nullptr;
    ~AddressList() {
        if (first != nullptr) ::freeaddrinfo(first);
    }
};

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
            if (sessions.size() >= kMostConnections) {
                ::close(s);
                if (refused) refused({ErrorKind::Refused, std::string(name) + ": too many connections", ""});
                continue;
            }
            auto done = std::make_shared<std::atomic<bool>>(false);
            sessions.emplace_back(std::thread([this, s, peer = std::string(name), done] {
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
        if (auto c = make_context(*options.tls); !c) return tl::unexpected(c.error());
    AddressList list;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    if (const int e = ::getaddrinfo(address.empty() ? nullptr : address.c_str(), std::to_string(port).c_str(),
                                    &hints, &list.first);
        e != 0)
        return fail(ErrorKind::Io, "cannot listen on " + address + ": " + ::gai_strerror(e));
    auto impl = std::make_unique<Impl>();
    impl->fd = ::socket(list.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(impl->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(impl->fd, list.first->ai_addr, list.first->ai_addrlen) != 0 || ::listen(impl->fd, 16) != 0) {
        auto e = socket_error("listening on", address + " port " + std::to_string(port));
        ::close(impl->fd);
        return tl::unexpected(e);
    }
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
