// The local control protocol: one JSON object a line over a Unix socket (docs/ARCHITECTURE.md, "Processes and
// sockets"). A Command answers a request, now or later, with any number of progress objects before the result.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "vmm/error.hpp"

namespace proa::vmm {

using Json = nlohmann::json;

inline constexpr std::size_t kLongestLine = 1 << 20;  // bytes of a request or an answer

// An object as it is sent, with its newline. Bytes that are not UTF-8 (console text may hold such) become U+FFFD.
std::string to_line(const Json& j);

// How a command answers. Copyable; dropping the last copy unanswered answers with an internal error. After the client
// is gone, answers go nowhere, and on_disconnect (if set) has run.
class Reply {
  public:
    struct State;
    explicit Reply(std::shared_ptr<State> s) : state_(std::move(s)) {}
    void ok(Json result = Json::object()) const;
    void fail(const std::string& code,
              const Error& e) const;  // codes: not-found, invalid, refused, cancelled, in-doubt, failed
    void progress(Json p) const;
    // Runs `f` once if the client leaves before the answer; at once if it has left already.
    void on_disconnect(std::function<void()> f) const;
    bool client_gone() const;
    // Hands the client's socket over: after `ok`, raw bytes flow through it (console). The server forgets it.
    void upgrade(Json result, std::function<void(boost::asio::local::stream_protocol::socket)> take) const;

  private:
    std::shared_ptr<State> state_;
};

using CommandHandler = std::function<void(const Json& args, Reply reply)>;

class CommandRegistry {
  public:
    void add(const std::string& name, CommandHandler handler) { handlers_[name] = std::move(handler); }
    void run(const std::string& name, const Json& args, Reply reply) const;

  private:
    std::map<std::string, CommandHandler> handlers_;
};

// Serves a registry on a Unix socket path (mode 0600), on `io`'s thread. A stale socket at `path` is replaced; one that
// somebody still listens on is not.
class CommandServer {
  public:
    static Result<std::unique_ptr<CommandServer>> listen(boost::asio::io_context& io, const std::string& path,
                                                         const CommandRegistry& registry);
    ~CommandServer();

  private:
    CommandServer(boost::asio::io_context& io, const std::string& path, const CommandRegistry& registry);
    void accept();
    boost::asio::local::stream_protocol::acceptor acceptor_;
    std::string path_;
    const CommandRegistry& registry_;
};

// Brackets and braces nest at most this deep in a request: nlohmann::json copies and prints recursively, so that depth
// would be the sender's way to exhaust our stack.
inline constexpr unsigned kDeepestJson = 32;
bool nests_too_deep(const std::string& line);

// The process that listens on a Unix socket; 0 if nobody does.
int listener_of(const std::string& path);

// One request from a program that waits for the answer. `progress` may be empty. Error::what is the server's; code
// "unreachable": nobody listens. `waiting` is told the socket before the request is sent, and -1 before it is closed: shutdown()
// of its sending side (a signal handler may) takes the request back, unless the answer says that it was carried out.
struct CallError {
    std::string code;
    Error error;
};
tl::expected<Json, CallError> call(const std::string& path, const std::string& command, const Json& args,
                                   const std::function<void(const Json&)>& progress = {},
                                   int* keep_fd = nullptr, const std::function<void(int)>& waiting = {});

// The same without waiting, on `io`'s thread. With a timeout, a server that has not answered by then is an error of code
// "timeout".
void async_call(boost::asio::io_context& io, const std::string& path, const std::string& command,
                const Json& args, std::function<void(const Json&)> progress,
                std::function<void(tl::expected<Json, CallError>)> done,
                std::chrono::milliseconds timeout = std::chrono::milliseconds::zero());

}  // namespace proa::vmm
