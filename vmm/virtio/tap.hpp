// A tap interface as a NetPort (Linux Documentation/networking/tuntap.rst), on a bridge if one is named.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "vmm/virtio/net.hpp"

namespace proa::vmm {

class TapPort final : public NetPort {
  public:
    // Creates `name` (or the next free vifN if it holds %d), up, enslaved to `bridge` if not empty.
    static Result<std::unique_ptr<TapPort>> open(boost::asio::io_context& io, const std::string& name,
                                                 const std::string& bridge);
    TapPort(boost::asio::io_context& io, int fd, std::string name);

    void on_input(std::function<void()> f);
    void send(std::span<const std::uint8_t> frame) override;
    std::size_t receive(std::span<std::uint8_t> frame) override;
    void want_input(bool on) override;
    std::uint64_t offloads() const override;
    void set_offloads(std::uint64_t negotiated) override;
    const std::string& name() const { return name_; }

  private:
    void arm();
    boost::asio::posix::stream_descriptor fd_;
    std::string name_;
    std::function<void()> input_;
    bool wanted_ = true, armed_ = false;
};

}  // namespace proa::vmm
