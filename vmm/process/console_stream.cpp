#include "vmm/process/console_stream.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>

namespace proa::vmm {

namespace {
constexpr std::size_t kHistory = 64 * 1024, kBacklog = 256 * 1024;
}

struct ConsoleStream::Client : std::enable_shared_from_this<Client> {
    Client(boost::asio::local::stream_protocol::socket s, ConsoleStream& o) : socket(std::move(s)), owner(o) {}
    boost::asio::local::stream_protocol::socket socket;
    ConsoleStream& owner;
    std::string pending, sending;
    std::uint8_t typed[256];

    void read() {
        socket.async_read_some(boost::asio::buffer(typed), [self = shared_from_this()](auto e, std::size_t n) {
            if (e) return static_cast<void>(self->owner.clients_.erase(self));
            self->owner.input_({self->typed, n});
            self->read();
        });
    }
    void send(const std::string& s) {
        if (pending.size() < kBacklog)
            pending += s;  // a client that doesn't read loses output, the guest doesn't wait
        if (sending.empty()) write();
    }
    void write() {
        sending.swap(pending);
        if (sending.empty()) return;
        boost::asio::async_write(socket, boost::asio::buffer(sending),
                                 [self = shared_from_this()](auto e, std::size_t) {
                                     self->sending.clear();
                                     if (!e) self->write();
                                 });
    }
};

void ConsoleStream::output(std::span<const std::uint8_t> bytes) {
    const std::string s(bytes.begin(), bytes.end());
    history_.insert(history_.end(), s.begin(), s.end());
    while (history_.size() > kHistory) history_.pop_front();
    for (const auto& c : clients_) c->send(s);
}

void ConsoleStream::attach(boost::asio::local::stream_protocol::socket socket) {
    auto c = std::make_shared<Client>(std::move(socket), *this);
    clients_.insert(c);
    c->send(history());
    c->read();
}

}  // namespace proa::vmm
