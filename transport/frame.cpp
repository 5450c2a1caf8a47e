#include "transport/frame.hpp"

#include <xxhash.h>
#include <zstd.h>

#include <chrono>
#include <cstring>
#include <memory>

namespace proa::transport {
namespace {

std::uint64_t checksum_of(FrameHeader h, std::span<const std::uint8_t> payload) {
    h.checksum = 0;
    return XXH3_64bits_withSeed(payload.data(), payload.size(), XXH3_64bits(&h, sizeof(h)));
}

}  // namespace

FrameHeader seal_frame(std::uint16_t type, std::uint8_t flags, std::uint32_t raw_length, std::uint64_t sequence,
                       std::span<const std::uint8_t> payload) {
    FrameHeader h;
    h.type = type;
    h.flags = flags;
    h.length = static_cast<std::uint32_t>(payload.size());
    h.raw_length = raw_length;
    h.sequence = sequence;
    h.checksum = checksum_of(h, payload);
    return h;
}

Result<void> check_header(const FrameHeader& h, std::uint64_t expected) {
    const auto refuse = [](const char* what) {
        return fail(ErrorKind::Protocol, std::string("peer's frame refused: ") + what);
    };
    if (h.magic != kFrameMagic) return refuse("not a proa frame");
    if (h.version != kFrameVersion) return refuse("unknown frame version");
    if ((h.flags & ~frame_flag::Zstd) != 0) return refuse("unknown flags");
    if (h.length > kMaxPayload || h.raw_length > kMaxPayload) return refuse("too long");
    if ((h.flags & frame_flag::Zstd) == 0 && h.raw_length != h.length) return refuse("lengths disagree");
    if (h.sequence != expected) return refuse("out of sequence (a frame was lost, repeated or reordered)");
    return {};
}

Result<void> open_frame(const FrameHeader& h, std::vector<std::uint8_t> payload, Frame& out) {
    if (payload.size() != h.length || checksum_of(h, payload) != h.checksum)
        return fail(ErrorKind::Protocol, "peer's frame refused: checksum does not match",
                    "check the network between the hosts");
    out.type = h.type;
    if ((h.flags & frame_flag::Zstd) == 0) {
        out.payload = std::move(payload);
        return {};
    }
    out.payload.resize(h.raw_length);
    thread_local const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                                       ZSTD_freeDCtx);
    const std::size_t n = ZSTD_decompressDCtx(context.get(), out.payload.data(), out.payload.size(),
                                              payload.data(), payload.size());
    if (ZSTD_isError(n) != 0 || n != h.raw_length)
        return fail(ErrorKind::Protocol, "peer's frame refused: it does not decompress to what it says");
    return {};
}

struct Compressor::Context {
    ZSTD_CCtx* zstd = ZSTD_createCCtx();
    ~Context() { ZSTD_freeCCtx(zstd); }
};

Compressor::Compressor(int level) : context_(new Context), level_(level) {}
Compressor::~Compressor() {
    delete context_;
}

std::span<const std::uint8_t> Compressor::compress(std::span<const std::uint8_t> raw) {
    if (level_ == kOff || raw.size() < 64) return {};
    const bool automatic = level_ == kAuto;
    if (automatic && skip_ > 0) {
        --skip_;
        return {};
    }
    out_.resize(ZSTD_compressBound(raw.size()));
    const auto start = std::chrono::steady_clock::now();
    const std::size_t n = ZSTD_compressCCtx(context_->zstd, out_.data(), out_.size(), raw.data(), raw.size(),
                                            automatic ? 1 : level_);
    if (ZSTD_isError(n) != 0) return {};
    if (automatic) {
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() + 1e-9;
        speed_ = static_cast<double>(raw.size()) / seconds;
        ratio_ = static_cast<double>(n) / static_cast<double>(raw.size());
        // Sending raw takes size / link; compressed, size / speed + size * ratio / link.
        const bool pays = ratio_ < 0.9 && (link_ == 0 || 1 / speed_ + ratio_ / link_ < 1 / link_);
        if (!pays) skip_ = 15;
        if (ratio_ >= 0.9) return {};
    }
    return n < raw.size() ? std::span<const std::uint8_t>(out_).first(n) : std::span<const std::uint8_t>{};
}

}  // namespace proa::transport
