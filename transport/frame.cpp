#include "transport/frame.hpp"

#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
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

Result<void> check_payload(const FrameHeader& h, std::span<const std::uint8_t> wire) {
    if (wire.size() != h.length || checksum_of(h, wire) != h.checksum)
        return fail(ErrorKind::Protocol, "peer's frame refused: checksum does not match",
                    "check the network between the hosts");
    return {};
}

Result<void> decompress_payload(const FrameHeader& h, std::span<const std::uint8_t> wire,
                                std::vector<std::uint8_t>& to) {
    to.resize(h.raw_length);
    thread_local const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                                       ZSTD_freeDCtx);
    const std::size_t n = ZSTD_decompressDCtx(context.get(), to.data(), to.size(), wire.data(), wire.size());
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

std::size_t Compressor::squeeze(std::span<const std::uint8_t> raw, int level) {
    out_.resize(ZSTD_compressBound(raw.size()));
    const std::size_t n =
        ZSTD_compressCCtx(context_->zstd, out_.data(), out_.size(), raw.data(), raw.size(), level);
    return ZSTD_isError(n) == 0 && n < raw.size() ? n : 0;
}

// Its size if it pays, 0 if not. Sending raw takes size / link; compressed, size / speed + size * ratio / link. That must be a
// fifth less: the peer has to decompress it, and a CPU that the channels share makes the link look slower than it is.
std::size_t Compressor::squeeze_if_it_pays(std::span<const std::uint8_t> part) {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t n = squeeze(part, 1);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() + 1e-9;
    const double speed = static_cast<double>(part.size()) / seconds;
    const double ratio = static_cast<double>(n) / static_cast<double>(part.size());
    constexpr double kWorthIt = 0.8;
    return ratio < 0.9 && 1 / speed + ratio / link_ < kWorthIt / link_ ? n : 0;
}

std::span<const std::uint8_t> Compressor::compress(std::span<const std::uint8_t> raw) {
    constexpr std::size_t kTrial = 64 << 10;  // of a batch of up to a megabyte: enough to tell
    if (level_ == kOff || raw.size() < 64) return {};
    if (level_ != kAuto) return squeezed(squeeze(raw, level_));
    if (link_ == 0) return {};
    if (skip_ > 0) {
        --skip_;
        return {};
    }
    // From the middle: a batch begins with the list of its pages.
    const std::size_t trial = std::min(kTrial, raw.size());
    const std::size_t n = squeeze_if_it_pays(raw.subspan((raw.size() - trial) / 2, trial));
    if (n == 0) {
        skip_ = rest_;
        rest_ = std::min(kLongestRest, 2 * rest_ + 1);
        return {};
    }
    rest_ = kFirstRest;
    return squeezed(trial == raw.size() ? n : squeeze(raw, 1));
}

}  // namespace proa::transport
