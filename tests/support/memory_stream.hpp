// A ByteStream over bytes in memory: what is written piles up, what was put in is read, the end is a closed connection.
#pragma once
#include <cstring>
#include <memory>
#include <vector>

#include "transport/channel.hpp"

namespace proa::test {

using Bytes = std::vector<std::uint8_t>;

struct Pipe {
    Bytes written, to_read;
    std::size_t at = 0;
};

class MemoryStream final : public transport::ByteStream {
  public:
    explicit MemoryStream(Pipe& p) : pipe_(p) {}
    transport::Result<void> read(std::span<std::uint8_t> to) override {
        if (pipe_.to_read.size() - pipe_.at < to.size())
            return transport::fail(transport::ErrorKind::Closed, "closed");
        if (!to.empty()) std::memcpy(to.data(), pipe_.to_read.data() + pipe_.at, to.size());
        pipe_.at += to.size();
        return {};
    }
    transport::Result<void> wait() override { return {}; }
    transport::Result<void> write(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) override {
        pipe_.written.insert(pipe_.written.end(), a.begin(), a.end());
        pipe_.written.insert(pipe_.written.end(), b.begin(), b.end());
        return {};
    }
    void cancel() override {}

  private:
    Pipe& pipe_;
};

inline transport::Channel channel_on(Pipe& p) {
    return transport::Channel(std::make_unique<MemoryStream>(p), "test");
}

}  // namespace proa::test
