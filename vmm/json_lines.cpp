#include "vmm/json_lines.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <istream>

namespace proa::vmm {
namespace {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

sockaddr_un address_of(const std::string& path) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    std::strncpy(a.sun_path, path.c_str(), sizeof(a.sun_path) - 1);
    return a;
}

int connect_to(const std::string& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un a = address_of(path);
    if (fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof(a)) == 0) return fd;
    const int e = errno;
    if (fd >= 0) ::close(fd);
    errno = e;
    return -1;
}

}  // namespace

std::string to_line(const Json& j) {
    return j.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

bool nests_too_deep(const std::string& line) {
    unsigned depth = 0;
    bool text = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (text) {
            if (c == '\\') ++i;
            if (c == '"') text = false;
        } else if (c == '"') {
            text = true;
        } else if (c == '[' || c == '{') {
            if (++depth > kDeepestJson) return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            --depth;
        }
    }
    return false;
}

int listener_of(const std::string& path) {
    const int fd = connect_to(path);
    if (fd < 0) return 0;
    ucred peer{};
    socklen_t n = sizeof(peer);
    const bool ok = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0;
    ::close(fd);
    return ok ? peer.pid : 0;
}

// One client connection: requests are read one after the other, answers are queued.
class Session : public std::enable_shared_from_this<Session> {
  public:
    Session(Socket s, const CommandRegistry& r) : socket_(std::move(s)), buffer_(kLongestLine), registry_(r) {}
    void read();
    void send(const Json& j) {
        if (closed_) return;
        out_.push_back(to_line(j));
        if (out_.size() == 1) write();
    }
    bool closed() const { return closed_; }
    void close() {
        if (std::exchange(closed_, true)) return;
        boost::system::error_code e;
        socket_.close(e);
        for (auto& f : std::exchange(gone_, {})) f();
    }

    Socket socket_;
    std::vector<std::function<void()>> gone_;
    std::function<void(Socket)> take_;

  private:
    void serve(const std::string& line);
    void write() {
        asio::async_write(socket_, asio::buffer(out_.front()),
                          [self = shared_from_this()](auto e, std::size_t) {
                              self->out_.pop_front();
                              if (e) return;
                              if (!self->out_.empty()) return self->write();
                              if (self->last_) return self->close();
                              if (self->take_) std::exchange(self->take_, {})(std::move(self->socket_));
                          });
    }
    asio::streambuf buffer_;
    const CommandRegistry& registry_;
    std::deque<std::string> out_;
    bool closed_ = false, last_ = false;  // last_: closes when the answer is out
};

struct Reply::State {
    std::shared_ptr<Session> session;
    Json id;
    bool answered = false;
    void finish(Json j) {
        if (std::exchange(answered, true)) return;
        j["id"] = id;
        session->gone_.clear();
        session->send(j);
        if (!session->take_ && !session->closed()) session->read();
    }
    ~State() {
        if (!answered)
            finish({{"ok", false},
                    {"error",
                     {{"code", "failed"}, {"what", "the command ended without an answer"}, {"remedy", ""}}}});
    }
};

void Session::read() {
    asio::async_read_until(socket_, buffer_, '\n', [self = shared_from_this()](auto e, std::size_t) {
        if (e == asio::error::not_found) {  // the buffer is full and holds no line
            self->last_ = true;
            return self->send(
                {{"id", nullptr},
                 {"ok", false},
                 {"error",
                  {{"code", "invalid"}, {"what", "a request line is longer than 1 MiB"}, {"remedy", ""}}}});
        }
        if (e) return self->close();
        std::istream in(&self->buffer_);
        std::string line;
        std::getline(in, line);
        self->serve(line);
    });
}

void Session::serve(const std::string& line) {
    const bool deep = nests_too_deep(line);
    const Json j = deep ? Json() : Json::parse(line, nullptr, false);
    auto state = std::make_shared<Reply::State>();
    state->session = shared_from_this();
    if (j.is_object() && j.contains("id") && j["id"].is_primitive()) state->id = j["id"];
    const Reply reply(state);
    if (deep)
        return reply.fail("invalid",
                          {"a request nests deeper than " + std::to_string(kDeepestJson) + " levels", ""});
    if (!j.is_object() || !j.contains("cmd") || !j["cmd"].is_string())
        return reply.fail("invalid", {"a request must be a JSON object with \"cmd\"", ""});
    const Json args = j.value("args", Json::object());
    if (!args.is_object()) return reply.fail("invalid", {"\"args\" must be an object", ""});
    // Watches for the client's end while the command runs, without reading what it may send later.
    socket_.async_wait(Socket::wait_read, [self = shared_from_this(), weak = std::weak_ptr(state)](auto) {
        char c;
        if (auto s = weak.lock();
            s && !s->answered && ::recv(self->socket_.native_handle(), &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
            self->close();
    });
    try {
        registry_.run(j["cmd"], args, reply);
    } catch (const std::exception& ex) {  // a wrong JSON type among the arguments
        reply.fail("invalid", {std::string("bad arguments: ") + ex.what(), ""});
    }
}

void Reply::ok(Json result) const {
    state_->finish({{"ok", true}, {"result", std::move(result)}});
}
void Reply::fail(const std::string& code, const Error& e) const {
    state_->finish({{"ok", false}, {"error", {{"code", code}, {"what", e.what}, {"remedy", e.remedy}}}});
}
void Reply::progress(Json p) const {
    if (!state_->answered) state_->session->send({{"id", state_->id}, {"progress", std::move(p)}});
}
void Reply::on_disconnect(std::function<void()> f) const {
    if (state_->session->closed()) return f();  // it left while we were getting here
    state_->session->gone_.push_back(std::move(f));
}
bool Reply::client_gone() const {
    return state_->session->closed();
}
void Reply::upgrade(Json result, std::function<void(Socket)> take) const {
    state_->session->take_ = std::move(take);
    ok(std::move(result));
}

void CommandRegistry::run(const std::string& name, const Json& args, Reply reply) const {
    const auto i = handlers_.find(name);
    if (i == handlers_.end()) return reply.fail("invalid", {"unknown command " + name, ""});
    i->second(args, std::move(reply));
}

Result<std::unique_ptr<CommandServer>> CommandServer::listen(asio::io_context& io, const std::string& path,
                                                             const CommandRegistry& registry) {
    if (path.size() >= sizeof(sockaddr_un::sun_path))
        return fail(path + " is too long for a socket's path", "use a shorter directory or guest name");
    if (const int pid = listener_of(path); pid != 0)
        return fail(path + " is served by process " + std::to_string(pid) + " already", "stop that one first");
    ::unlink(path.c_str());  // left by a process that was killed
    try {
        std::unique_ptr<CommandServer> s(new CommandServer(io, path, registry));
        s->accept();
        return s;
    } catch (const boost::system::system_error& e) {
        return fail("cannot listen on " + path + ": " + e.what(), "is the directory there and writable?");
    }
}

CommandServer::CommandServer(asio::io_context& io, const std::string& path, const CommandRegistry& registry)
    : acceptor_(io), path_(path), registry_(registry) {
    const asio::local::stream_protocol::endpoint endpoint(path);
    acceptor_.open(endpoint.protocol());
    const mode_t old = ::umask(0177);  // mode 0600 from its first moment on
    boost::system::error_code e;
    acceptor_.bind(endpoint, e);
    ::umask(old);
    if (e) throw boost::system::system_error(e);
    acceptor_.listen();
}

CommandServer::~CommandServer() {
    ::unlink(path_.c_str());
}

void CommandServer::accept() {
    acceptor_.async_accept([this](auto e, Socket s) {
        if (e == asio::error::operation_aborted) return;
        if (!e) std::make_shared<Session>(std::move(s), registry_)->read();
        accept();
    });
}

namespace {

tl::expected<Json, CallError> parse_answer(const Json& j) {
    if (j.value("ok", false)) return j.value("result", Json::object());
    const Json e = j.value("error", Json::object());
    return tl::unexpected(
        CallError{e.value("code", "failed"), {e.value("what", "no reason given"), e.value("remedy", "")}});
}

}  // namespace

tl::expected<Json, CallError> call(const std::string& path, const std::string& command, const Json& args,
                                   const std::function<void(const Json&)>& progress, int* keep_fd,
                                   const std::function<void(int)>& waiting) {
    const int fd = connect_to(path);
    if (fd < 0)
        return tl::unexpected(CallError{"unreachable",
                                        {"cannot reach " + path + ": " + std::strerror(errno),
                                         errno == EACCES ? "run as root" : "is proad running?"}});
    if (waiting) waiting(fd);
    std::string out = to_line({{"id", 1}, {"cmd", command}, {"args", args}}), line;
    tl::expected<Json, CallError> result =
        tl::unexpected(CallError{"failed", {"the connection was closed before an answer", ""}});
    if (::send(fd, out.data(), out.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(out.size())) {
        char c;
        // Byte by byte: what follows an upgrade's answer is not ours. A request that can be taken back is waited for all the same.
        for (;;) {
            const ssize_t n = ::recv(fd, &c, 1, 0);
            if (n < 0 && errno == EINTR && waiting) continue;
            if (n != 1) break;
            if (c != '\n') {
                line += c;
                continue;
            }
            const Json j = Json::parse(line, nullptr, false);
            line.clear();
            if (!j.is_object()) break;
            if (j.contains("progress")) {
                if (progress) progress(j["progress"]);
                continue;
            }
            result = parse_answer(j);
            break;
        }
    }
    if (waiting) waiting(-1);
    if (keep_fd != nullptr && result)
        *keep_fd = fd;
    else
        ::close(fd);
    return result;
}

namespace {

struct AsyncCall : std::enable_shared_from_this<AsyncCall> {
    explicit AsyncCall(asio::io_context& io) : socket(io), timer(io), buffer(kLongestLine) {}
    Socket socket;
    asio::steady_timer timer;
    asio::streambuf buffer;
    std::string out;
    std::function<void(const Json&)> progress;
    std::function<void(tl::expected<Json, CallError>)> done;
    void finish(tl::expected<Json, CallError> r) {
        timer.cancel();
        if (done) std::exchange(done, {})(std::move(r));
    }
    void broken(const std::string& what) { finish(tl::unexpected(CallError{"failed", {what, ""}})); }
    void read() {
        asio::async_read_until(socket, buffer, '\n', [self = shared_from_this()](auto e, std::size_t) {
            if (e) return self->broken("the connection was closed before an answer");
            std::istream in(&self->buffer);
            std::string line;
            std::getline(in, line);
            const Json j = Json::parse(line, nullptr, false);
            if (!j.is_object()) return self->broken("malformed answer");
            if (!j.contains("progress")) return self->finish(parse_answer(j));
            if (self->progress) self->progress(j["progress"]);
            self->read();
        });
    }
};

}  // namespace

void async_call(asio::io_context& io, const std::string& path, const std::string& command, const Json& args,
                std::function<void(const Json&)> progress,
                std::function<void(tl::expected<Json, CallError>)> done, std::chrono::milliseconds timeout) {
    auto c = std::make_shared<AsyncCall>(io);
    c->progress = std::move(progress);
    c->done = std::move(done);
    c->out = to_line({{"id", 1}, {"cmd", command}, {"args", args}});
    if (timeout.count() != 0) {
        c->timer.expires_after(timeout);
        c->timer.async_wait([c, path](auto e) {
            if (e) return;
            boost::system::error_code ignored;
            c->socket.close(ignored);
            c->finish(tl::unexpected(CallError{"timeout", {path + " does not answer", ""}}));
        });
    }
    c->socket.async_connect(asio::local::stream_protocol::endpoint(path), [c, path](auto e) {
        if (e) return c->broken("cannot reach " + path + ": " + e.message());
        asio::async_write(c->socket, asio::buffer(c->out), [c](auto error, std::size_t) {
            if (error) return c->broken("the connection was closed before an answer");
            c->read();
        });
    });
}

}  // namespace proa::vmm
