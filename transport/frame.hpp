// The frame: what every byte between hosts travels in. 32 bytes of header, little endian, then `length` bytes.
// Checked in this order: bound, checksum, decompression, (the payload's own) range. docs/STREAM.md has the table.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "transport/error.hpp"

namespace proa::transport {

inline constexpr std::uint32_t kFrameMagic = 0x616f'7270;  // "proa"
inline constexpr std::uint8_t kFrameVersion = 1;
inline constexpr std::uint32_t kMaxPayload = 4u << 20;  // on the wire and decompressed
inline constexpr std::uint16_t kMandatory = 0x8000;     // a type bit: whoever doesn't know the type must refuse

namespace frame_flag {
inline constexpr std::uint8_t Zstd = 1;
}

struct FrameHeader {
    std::uint32_t magic = kFrameMagic;
    std::uint8_t version = kFrameVersion;
    std::uint8_t flags = 0;
    std::uint16_t type = 0;
    std::uint32_t length = 0;      // payload bytes that follow
    std::uint32_t raw_length = 0;  // after decompression; equal to length without Zstd
    std::uint64_t sequence = 0;    // per channel and direction, from 0: loss, replay and reordering show
    std::uint64_t checksum = 0;    // XXH3-64 of header (this field 0) and payload
};
static_assert(sizeof(FrameHeader) == 32);

struct Frame {
    std::uint16_t type = 0;
    std::vector<std::uint8_t> payload;  // decompressed
};

// Fills in length, checksum and the rest of a header for `payload` as it goes on the wire.
FrameHeader seal_frame(std::uint16_t type, std::uint8_t flags, std::uint32_t raw_length, std::uint64_t sequence,
                       std::span<const std::uint8_t> payload);
// Before anything is allocated for the payload.
Result<void> check_header(const FrameHeader& h, std::uint64_t expected_sequence);
// The checksum over what came after the header.
Result<void> check_payload(const FrameHeader& h, std::span<const std::uint8_t> wire);
// What passed that check and is flagged Zstd, into `to`.
Result<void> decompress_payload(const FrameHeader& h, std::span<const std::uint8_t> wire,
                                std::vector<std::uint8_t>& to);

// zstd where it pays. Policy Auto waits until it knows what the link takes, then tries a part of a batch: one that shrinks
// by less than a tenth, or a link that takes bytes faster than this CPU can compress them, turns compression off for the
// next 15 batches, and for twice as many each time it happens again.
class Compressor {
  public:
    static constexpr int kAuto = -100, kOff = 0;
    explicit Compressor(int level);  // kAuto, kOff, or zstd's 1..19
    ~Compressor();
    Compressor(const Compressor&) = delete;
    Compressor& operator=(const Compressor&) = delete;
    // The compressed bytes, or nothing if `raw` should go as it is. Valid until the next call.
    std::span<const std::uint8_t> compress(std::span<const std::uint8_t> raw);
    // What the link has shown: bytes a second it takes. Auto sends everything as it is until it knows.
    void link_speed(double bytes_per_second) { link_ = bytes_per_second; }

  private:
    struct Context;
    std::size_t squeeze(std::span<const std::uint8_t> raw, int level);  // into out_; 0: it can't
    std::size_t squeeze_if_it_pays(std::span<const std::uint8_t> part);
    std::span<const std::uint8_t> squeezed(std::size_t n) const { return {out_.data(), n}; }
    Context* context_;
    int level_;
    unsigned skip_ = 0, rest_ = kFirstRest;
    static constexpr unsigned kFirstRest = 15, kLongestRest = 255;
    double link_ = 0;
    std::vector<std::uint8_t> out_;
};

}  // namespace proa::transport
