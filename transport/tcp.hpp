// A connected TCP socket as a ByteStream, and what dialling and listening share. For transport/ only.
#pragma once
#include <netdb.h>
#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "transport/channel.hpp"

namespace proa::transport {

// No delay, keep-alive, deadlines.
void set_options(int fd, std::chrono::milliseconds timeout);
// From errno.
Error socket_error(const char* what, const std::string& peer);

class TcpStream final : public ByteStream {
  public:
    TcpStream(int fd, std::string peer) : fd_(fd), peer_(std::move(peer)) {}
    ~TcpStream() override;
    Result<void> read(std::span<std::uint8_t> to) override;
    Result<void> wait() override;
    Result<void> write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) override;
    void cancel() override;
    int fd() const { return fd_; }

  private:
    static void advance(iovec (&v)[2], std::size_t n);
    int fd_;
    std::string peer_;
    std::atomic<bool> cancelled_{false};
};

// What getaddrinfo(3) found.
struct AddressList {
    addrinfo* first = nullptr;
    ~AddressList() {
        if (first != nullptr) ::freeaddrinfo(first);
    }
};

}  // namespace proa::transport
