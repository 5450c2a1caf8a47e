// An HTTP server that says what the test wants, byte for byte.
#pragma once
#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/socket.hpp"

namespace proa::test {

inline std::string http_answer(const std::string& body, const std::string& status = "200 OK") {
    return "HTTP/1.1 " + status +
           "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
}

class HttpServer {
  public:
    struct Request {
        std::string path, body;
    };
    // Answers one request: writes to the socket whatever it likes. False: the connection ends. From a thread per connection.
    using Handler = std::function<bool(const Request&, Socket&)>;
    explicit HttpServer(Handler h) : handler_(std::move(h)), acceptor_([this] { accept(); }) {}
    // Always the same raw bytes.
    explicit HttpServer(std::string bytes)
        : HttpServer(
              [b = std::move(bytes)](const Request&, Socket& s) { return s.write(b.data(), b.size()); }) {}
    ~HttpServer() {
        stopping_ = true;
        listener_.end();
        {
            std::lock_guard lock(mutex_);
            for (auto& s : sockets_) s->end();
        }
        acceptor_.join();
        for (auto& t : threads_) t.join();
    }
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    std::uint16_t port() const { return listener_.port(); }
    std::string spec() const { return "etcd://127.0.0.1:" + std::to_string(port()); }
    int requests() const { return requests_; }
    bool stopping() const { return stopping_; }

  private:
    void accept() {
        while (auto s = listener_.accept()) {
            std::lock_guard lock(mutex_);
            if (stopping_) return;
            sockets_.push_back(s);
            threads_.emplace_back([this, s] { serve(*s); });
        }
    }
    void serve(Socket& s) {
        Request r;
        while (read_request(s, r)) {
            ++requests_;
            if (!handler_(r, s)) break;
        }
        s.end();
    }
    static bool read_request(Socket& s, Request& r) {
        std::string head;
        for (char c = 0; head.size() < 4 || head.compare(head.size() - 4, 4, "\r\n\r\n") != 0; head += c)
            if (!s.read(&c, 1)) return false;
        r.path = head.substr(head.find(' ') + 1);
        r.path.resize(r.path.find(' '));
        std::transform(head.begin(), head.end(), head.begin(), [](unsigned char c) { return std::tolower(c); });
        const std::string field = "content-length: ";
        const auto at = head.find(field);
        r.body.resize(at == std::string::npos ? 0
                                              : std::strtoul(head.c_str() + at + field.size(), nullptr, 10));
        return s.read(r.body.data(), r.body.size());
    }

    Handler handler_;
    std::atomic<int> requests_{0};
    std::atomic<bool> stopping_{false};
    std::mutex mutex_;
    std::vector<std::shared_ptr<Socket>> sockets_;
    std::vector<std::thread> threads_;
    ListeningSocket listener_;
    std::thread acceptor_;
};

}  // namespace proa::test
