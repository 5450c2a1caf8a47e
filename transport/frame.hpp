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
// Checksum, then decompression into `out.payload`.
Result<void> open_frame(const FrameHeader& h, std::vector<std::uint8_t> payload, Frame& out);

// zstd where it pays. Policy Auto samples: a batch that shrank by less than a tenth turns compression off for the
// next 15 batches, and so does a link that takes bytes faster than this CPU can compress them.
class Compressor {
  public:
    static constexpr int kAuto = -100, kOff = 0;
    explicit Compressor(int level);  // kAuto, kOff, or zstd's 1..19
    ~Compressor();
    Compressor(const Compressor&) = delete;
    Compressor& operator=(const Compressor&) = delete;
    // The compressed bytes, or nothing if `raw` should go as it is. Valid until the next call.
    std::span<const std::uint8_t> compress(std::span<const std::uint8_t> raw);
    // What the link has shown: bytes a second it takes. Auto compares.
    void link_speed(double bytes_per_second) { link_ = bytes_per_second; }

  private:
    struct Context;
    Context* context_;
    int level_;
    unsigned skip_ = 0;
    double link_ = 0, speed_ = 0, ratio_ = 1;
    std::vector<std::uint8_t> out_;
};

}  // namespace proa::transport
