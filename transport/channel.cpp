#include "transport/channel.hpp"

#include <cstring>

namespace proa::transport {

namespace {

// A peer that speaks TLS where this side does not, or the reverse, is only seen as one that makes no sense.
Error first_frame_hint(Error e) {
    if (e.kind != ErrorKind::Timeout && e.kind != ErrorKind::Cancelled)
        e.remedy = "is it proa, and do both sides use TLS (or both --plaintext) with keys of the same CA?";
    return e;
}

}  // namespace

Credentials Credentials::in(const std::string& d) {
    return {d + "/ca.pem", d + "/host.pem", d + "/host.key"};
}

Result<void> Channel::put(const FrameHeader& h, std::span<const std::uint8_t> payload) {
    sent_ += sizeof(h) + payload.size();
    const std::span header(reinterpret_cast<const std::uint8_t*>(&h), sizeof(h));
    if (!gathering_) return stream_->write(header, payload);
    gathered_.insert(gathered_.end(), header.begin(), header.end());
    if (gathered_.size() + payload.size() <= kGathered) {
        gathered_.insert(gathered_.end(), payload.begin(), payload.end());
        return {};
    }
    auto r = stream_->write(gathered_, payload);
    gathered_.clear();
    return r;
}

Result<void> Gathering::flush() {
    channel_.gathering_ = false;
    if (channel_.gathered_.empty()) return {};
    auto r = channel_.stream_->write(channel_.gathered_, {});
    channel_.gathered_.clear();
    return r;
}

Result<void> Channel::send(std::uint16_t type, std::span<const std::uint8_t> payload) {
    if (payload.size() > kMaxPayload) return fail(ErrorKind::Protocol, "frame too long to send");
    return put(seal_frame(type, 0, static_cast<std::uint32_t>(payload.size()), next_send_++, payload), payload);
}

Result<void> Channel::send(std::span<const OutgoingFrame> frames) {
    for (const auto& f : frames)
        if (f.payload.size() > kMaxPayload) return fail(ErrorKind::Protocol, "frame too long to send");
    std::vector<std::uint8_t> bytes;
    for (const auto& f : frames) {
        const auto size = static_cast<std::uint32_t>(f.payload.size());
        const FrameHeader h = seal_frame(f.type, 0, size, next_send_++, f.payload);
        const auto* p = reinterpret_cast<const std::uint8_t*>(&h);
        bytes.insert(bytes.end(), p, p + sizeof(h));
        bytes.insert(bytes.end(), f.payload.begin(), f.payload.end());
    }
    sent_ += bytes.size();
    return stream_->write(bytes, {});
}

Result<void> Channel::send_compressed(std::uint16_t type, std::span<const std::uint8_t> wire,
                                      std::uint32_t raw_length) {
    return put(seal_frame(type, frame_flag::Zstd, raw_length, next_send_++, wire), wire);
}

Result<void> Channel::receive(Frame& f, Patience patience) {
    FrameHeader h;
    if (patience == Patience::Idle)
        if (auto r = stream_->wait(); !r) return tl::unexpected(r.error());
    if (auto r = stream_->read({reinterpret_cast<std::uint8_t*>(&h), sizeof(h)}); !r)
        return tl::unexpected(next_receive_ == 0 ? first_frame_hint(r.error()) : r.error());
    if (auto r = check_header(h, next_receive_); !r) {
        const bool stranger = next_receive_ == 0 && h.magic != kFrameMagic;
        return tl::unexpected(stranger ? first_frame_hint(r.error()) : r.error());
    }
    ++next_receive_;
    const bool compressed = (h.flags & frame_flag::Zstd) != 0;
    std::vector<std::uint8_t>& wire = compressed ? compressed_ : f.payload;
    wire.resize(h.length);
    if (auto r = stream_->read(wire); !r) return r;
    received_ += sizeof(h) + h.length;
    f.type = h.type;
    if (auto r = check_payload(h, wire); !r) return r;
    return compressed ? decompress_payload(h, wire, f.payload) : Result<void>();
}

Result<Frame> Channel::receive(Patience patience) {
    Frame f;
    if (auto r = receive(f, patience); !r) return tl::unexpected(r.error());
    return f;
}

}  // namespace proa::transport
