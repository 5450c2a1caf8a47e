#include "transport/channel.hpp"

#include <cstring>

namespace proa::transport {

Credentials Credentials::in(const std::string& d) {
    return {d + "/ca.pem", d + "/host.pem", d + "/host.key"};
}

Result<void> Channel::put(const FrameHeader& h, std::span<const std::uint8_t> payload) {
    sent_ += sizeof(h) + payload.size();
    return stream_->write({reinterpret_cast<const std::uint8_t*>(&h), sizeof(h)}, payload);
}

Result<void> Channel::send(std::uint16_t type, std::span<const std::uint8_t> payload) {
    if (payload.size() > kMaxPayload) return fail(ErrorKind::Protocol, "frame too long to send");
    return put(seal_frame(type, 0, static_cast<std::uint32_t>(payload.size()), next_send_++, payload), payload);
}

Result<void> Channel::send_compressed(std::uint16_t type, std::span<const std::uint8_t> wire,
                                      std::uint32_t raw_length) {
    return put(seal_frame(type, frame_flag::Zstd, raw_length, next_send_++, wire), wire);
}

Result<Frame> Channel::receive() {
    FrameHeader h;
    if (auto r = stream_->read({reinterpret_cast<std::uint8_t*>(&h), sizeof(h)}); !r)
        return tl::unexpected(r.error());
    if (auto r = check_header(h, next_receive_); !r) return tl::unexpected(r.error());
    ++next_receive_;
    std::vector<std::uint8_t> payload(h.length);
    if (auto r = stream_->read(payload); !r) return tl::unexpected(r.error());
    received_ += sizeof(h) + h.length;
    Frame f;
    if (auto r = open_frame(h, std::move(payload), f); !r) return tl::unexpected(r.error());
    return f;
}

}  // namespace proa::transport
