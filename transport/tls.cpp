// Mutual TLS 1.3: OpenSSL over a socket that never makes it wait, so that its lock is never held while waiting.
#include "transport/tls.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

#include "transport/cipher.hpp"
#include "transport/socket_bio.hpp"

namespace proa::transport {
namespace {

namespace ssl = boost::asio::ssl;

constexpr std::size_t kReadAhead = 64 << 10;

std::string tls_reason() {
    // No word from OpenSSL: then it was the socket (a dead link: ETIMEDOUT), or plainly the end.
    char text[256] = "the peer ended it";
    if (errno != 0) std::snprintf(text, sizeof(text), "%s", std::strerror(errno));
    if (const unsigned long e = ERR_get_error(); e != 0) ERR_error_string_n(e, text, sizeof(text));
    ERR_clear_error();
    return text;
}

class TlsStream final : public ByteStream {
  public:
    TlsStream(std::unique_ptr<TcpStream> tcp, std::shared_ptr<ssl::context> context, std::string peer,
              std::chrono::milliseconds timeout)
        : tcp_(std::move(tcp)),
          context_(std::move(context)),
          peer_(std::move(peer)),
          timeout_(timeout),
          ssl_(SSL_new(context_->native_handle())) {
        // Records hold 16 KiB at most. They are gathered here, or each of them would cost a system call, and a wake-up
        // of the peer.
        gathered_ = BIO_new(BIO_f_buffer());
        BIO_set_write_buffer_size(gathered_, kGathered);
        BIO_push(gathered_, socket_bio(tcp_->fd()));
        SSL_set_bio(ssl_, socket_bio(tcp_->fd()), gathered_);
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
            if (SSL_has_pending(ssl_) != 0) return {};  // also what was read ahead
        }
        return tcp_->wait();
    }
    Result<void> write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) override {
        std::array<std::uint8_t, kOneRecord> joined;
        if (!a.empty() && !b.empty() && a.size() + b.size() <= joined.size()) {  // a short frame is one record
            std::copy(b.begin(), b.end(), std::copy(a.begin(), a.end(), joined.begin()));
            a = std::span(joined).first(a.size() + b.size());
            b = {};
        }
        for (const auto part : {a, b}) {
            std::size_t n = 0;
            if (part.empty()) continue;
            if (auto r =
                    drive("writing to", {}, [&] { return SSL_write_ex(ssl_, part.data(), part.size(), &n); });
                !r)
                return r;
        }
        return flush();
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
            if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE) return closed();
            const auto left =
                deadline
                    ? std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now())
                    : timeout_;
            if (auto r = await(what, wants == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, left); !r) return r;
        }
    }
    // What was gathered goes out.
    Result<void> flush() {
        for (;;) {
            {
                std::lock_guard lock(mutex_);
                errno = 0;
                if (BIO_flush(gathered_) > 0) return {};
                if (BIO_should_retry(gathered_) == 0) return closed();
            }
            if (auto r = await("writing to", POLLOUT, timeout_); !r) return r;
        }
    }
    Result<void> await(const char* what, short events, std::chrono::milliseconds limit) {
        pollfd p{tcp_->fd(), events, 0};
        if (::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(0, limit.count()))) != 0) return {};
        errno = ETIMEDOUT;
        return tl::unexpected(socket_error(what, peer_));
    }
    tl::unexpected<Error> closed() const {
        return fail(cancelled_ ? ErrorKind::Cancelled : ErrorKind::Closed,
                    "connection to " + peer_ + " was closed: " + tls_reason());
    }
    static constexpr int kGathered = 256 << 10;
    static constexpr std::size_t kOneRecord = 4096;
    std::unique_ptr<TcpStream> tcp_;
    std::shared_ptr<ssl::context> context_;
    std::string peer_;
    std::chrono::milliseconds timeout_;
    SSL* ssl_;
    BIO* gathered_;  // the SSL object's
    std::mutex mutex_;
    std::atomic<bool> cancelled_{false};
};

using Context = std::shared_ptr<ssl::context>;

Result<Context> make_context(const Credentials& c) {
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
    SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_ciphersuites(context->native_handle(), cipher_suites().c_str());
    SSL_CTX_set_read_ahead(context->native_handle(), 1);
    SSL_CTX_set_default_read_buffer_len(context->native_handle(), kReadAhead);
    SSL_CTX_set_mode(context->native_handle(), SSL_MODE_AUTO_RETRY);
    context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
    if (auto r = step(c.ca, [&] { context->load_verify_file(c.ca); }); !r) return tl::unexpected(r.error());
    if (auto r = step(c.certificate, [&] { context->use_certificate_chain_file(c.certificate); }); !r)
        return tl::unexpected(r.error());
    if (auto r = step(c.key, [&] { context->use_private_key_file(c.key, ssl::context::pem); }); !r)
        return tl::unexpected(r.error());
    return context;
}

// What the files of `c` were when they were read. New ones are used from the next connection on.
using Stamp = std::array<std::array<std::int64_t, 5>, 3>;
Stamp stamp_of(const Credentials& c) {
    Stamp s{};
    for (std::size_t i = 0; i < s.size(); ++i) {
        struct stat st {};
        const std::string& file = i == 0 ? c.ca : i == 1 ? c.certificate : c.key;
        if (::stat(file.c_str(), &st) == 0)
            s[i] = {static_cast<std::int64_t>(st.st_ino), st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec, 1};
    }
    return s;
}

// Reading the files costs several times what a handshake does, and a migration opens many connections: the last ones read
// are kept.
Result<Context> context_for(const Credentials& c) {
    struct Kept {
        std::mutex mutex;
        Credentials files;
        Stamp stamp;
        Context context;
    };
    static Kept& kept = *new Kept;  // never destroyed: at exit OpenSSL is gone before statics are
    const std::lock_guard lock(kept.mutex);
    const Stamp now = stamp_of(c);
    if (kept.context && kept.stamp == now && kept.files == c) return kept.context;
    auto made = make_context(c);
    if (made) {
        kept.files = c;
        kept.stamp = now;
        kept.context = *made;
    }
    return made;
}

}  // namespace

Result<void> check_credentials(const Credentials& c) {
    if (auto made = context_for(c); !made) return tl::unexpected(made.error());
    return {};
}

Result<std::unique_ptr<ByteStream>> secure(std::unique_ptr<TcpStream> tcp, const ChannelOptions& o, bool client,
                                           const std::string& host) {
    if (!o.tls) return std::unique_ptr<ByteStream>(std::move(tcp));
    auto context = context_for(*o.tls);
    if (!context) return tl::unexpected(context.error());
    auto tls = std::make_unique<TlsStream>(std::move(tcp), *context, host, o.io_timeout);
    if (auto r = tls->handshake(client, host); !r) return tl::unexpected(r.error());
    return std::unique_ptr<ByteStream>(std::move(tls));
}

}  // namespace proa::transport
