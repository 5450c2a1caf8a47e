// The local control protocol: one JSON object a line over a Unix socket (docs/ARCHITECTURE.md, "Processes and
// sockets"). A Command answers a request, now or later, with any number of progress objects before the result.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "vmm/error.hpp"

namespace proa::vmm {

using Json = nlohmann::json;

// How a command answers. Copyable; dropping the last copy unanswered answers with an internal error. After the client
// is gone, answers go nowhere, and on_disconnect (if set) has run.
class Reply {
  public:
    struct State;
    explicit Reply(std::shared_ptr<State> s) : state_(std::move(s)) {}
    void ok(Json result = Json::object()) const;
    void fail(const std::string& code,
              const Error& e) const;  // codes: not-found, invalid, refused, cancelled, failed
    void progress(Json p) const;
    void on_disconnect(std::function<void()> f) const;
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

// Serves a registry on a Unix socket path (mode 0600), on `io`'s thread.
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

// One request from a program that waits for the answer. `progress` may be empty. Error::what is the server's.
struct CallError {
    std::string code;
    Error error;
};
tl::expected<Json, CallError> call(const std::string& path, const std::string& command, const Json& args,
                                   const std::function<void(const Json&)>& progress = {},
                                   int* keep_fd = nullptr);

// The same without waiting, on `io`'s thread: exactly one of done's arguments counts.
void async_call(boost::asio::io_context& io, const std::string& path, const std::string& command,
                const Json& args, std::function<void(const Json&)> progress,
                std::function<void(tl::expected<Json, CallError>)> done);

}  // namespace proa::vmm
