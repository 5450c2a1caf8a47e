// What a guest prints, and who listens: a 64 KiB history and any number of attached clients that may type.
#pragma once
#include <boost/asio/local/stream_protocol.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace proa::vmm {

class ConsoleStream {
  public:
    explicit ConsoleStream(std::function<void(std::span<const std::uint8_t>)> input)
        : input_(std::move(input)) {}
    void output(std::span<const std::uint8_t> bytes);
    void attach(boost::asio::local::stream_protocol::socket socket);
    std::string history() const { return {history_.begin(), history_.end()}; }

  private:
    struct Client;
    std::function<void(std::span<const std::uint8_t>)> input_;
    std::deque<char> history_;
    std::set<std::shared_ptr<Client>> clients_;
};

}  // namespace proa::vmm
