// Frames: what arrives is what was sent, or it is refused with a reason.
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstring>
#include <numeric>

#include "tests/support/memory_stream.hpp"
#include "transport/channel.hpp"

namespace proa::transport {
namespace {

using test::Bytes;
using test::channel_on;
using test::Pipe;

constexpr std::uint16_t kType = kMandatory | 7;

Bytes numbers(std::size_t n) {
    Bytes b(n);
    std::iota(b.begin(), b.end(), std::uint8_t{1});
    return b;
}

Bytes on_the_wire(std::span<const std::uint8_t> payload, bool compress = false) {
    Pipe p;
    auto c = channel_on(p);
    if (!compress) {
        EXPECT_TRUE(c.send(kType, payload));
        return p.written;
    }
    Bytes wire(ZSTD_compressBound(payload.size()));
    wire.resize(ZSTD_compress(wire.data(), wire.size(), payload.data(), payload.size(), 1));
    EXPECT_TRUE(c.send_compressed(kType, wire, static_cast<std::uint32_t>(payload.size())));
    return p.written;
}

Result<Frame> received(Bytes wire) {
    Pipe p;
    p.to_read = std::move(wire);
    auto c = channel_on(p);
    return c.receive();
}

// A frame whose checksum is right, whatever else it says.
Bytes forged(FrameHeader h, const Bytes& payload) {
    FrameHeader sealed = seal_frame(h.type, h.flags, h.raw_length, h.sequence, payload);
    Bytes b(sizeof(sealed) + payload.size());
    std::memcpy(b.data(), &sealed, sizeof(sealed));
    std::copy(payload.begin(), payload.end(), b.begin() + sizeof(sealed));
    return b;
}

TEST(Frame, ArrivesAsItWasSent) {
    for (const std::size_t n : {0u, 1u, 31u, 4096u, 100'000u}) {
        const Bytes payload = numbers(n);
        for (const bool compress : {false, true}) {
            const auto f = received(on_the_wire(payload, compress));
            ASSERT_TRUE(f) << f.error().what;
            EXPECT_EQ(f->type, kType);
            EXPECT_EQ(f->payload, payload);
        }
    }
}

TEST(Frame, EveryFlippedBitIsRefused) {
    for (const bool compress : {false, true}) {
        const Bytes good = on_the_wire(numbers(64), compress);
        for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
            Bytes bad = good;
            bad[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
            const auto f = received(bad);
            ASSERT_FALSE(f) << "bit " << bit << (compress ? " (compressed)" : "");
            EXPECT_FALSE(f.error().what.empty());
        }
    }
}

TEST(Frame, EveryTruncationIsAnError) {
    const Bytes good = on_the_wire(numbers(100));
    for (std::size_t n = 0; n < good.size(); ++n)
        EXPECT_FALSE(received({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)})) << n;
}

TEST(Frame, ALengthIsRefusedBeforeItsBytesAreWaitedFor) {
    for (const auto& [length, raw] :
         {std::pair{kMaxPayload + 1, kMaxPayload + 1}, std::pair{~0u, ~0u}, std::pair{64u, kMaxPayload + 1}}) {
        FrameHeader h = seal_frame(kType, frame_flag::Zstd, raw, 0, {});
        h.length = length;
        const auto r = check_header(h, 0);
        ASSERT_FALSE(r);
        EXPECT_NE(r.error().what.find("too long"), std::string::npos);
    }
    Pipe p;
    auto c = channel_on(p);
    EXPECT_FALSE(c.send(kType, Bytes(kMaxPayload + 1)));
    EXPECT_TRUE(p.written.empty());
}

TEST(Frame, LengthsThatDisagreeAreRefusedWithoutCompression) {
    FrameHeader h;
    h.type = kType;
    h.raw_length = 65;
    const auto f = received(forged(h, numbers(64)));
    ASSERT_FALSE(f);
    EXPECT_NE(f.error().what.find("lengths disagree"), std::string::npos);
}

TEST(Frame, ABombIsNotInflated) {
    // 1 GiB of zeros in a few dozen kilobytes; the header says 4 KiB, or all that a header may say.
    Bytes zeros(8u << 20), bomb(ZSTD_compressBound(zeros.size()));
    bomb.resize(ZSTD_compress(bomb.data(), bomb.size(), zeros.data(), zeros.size(), 1));
    Bytes many;
    for (int i = 0; i < 128; ++i) many.insert(many.end(), bomb.begin(), bomb.end());
    for (const std::uint32_t raw : {4096u, kMaxPayload}) {
        FrameHeader h;
        h.type = kType;
        h.flags = frame_flag::Zstd;
        h.raw_length = raw;
        const auto f = received(forged(h, many));
        ASSERT_FALSE(f);
        EXPECT_NE(f.error().what.find("decompress"), std::string::npos);
    }
}

TEST(Frame, CompressedBytesThatAreNoneOrTooFewAreRefused) {
    FrameHeader h;
    h.type = kType;
    h.flags = frame_flag::Zstd;
    h.raw_length = 100;
    EXPECT_FALSE(received(forged(h, numbers(64))));
    EXPECT_FALSE(received(forged(h, {})));
    Bytes wire(256);
    const Bytes raw = numbers(99);
    wire.resize(ZSTD_compress(wire.data(), wire.size(), raw.data(), raw.size(), 1));
    EXPECT_FALSE(received(forged(h, wire)));
}

TEST(Frame, OneFramesMemoryServesForManyOfThem) {
    Pipe p;
    auto c = channel_on(p);
    const std::size_t sizes[] = {4096, 10, 100'000, 0, 64, 100'000};
    for (const std::size_t n : sizes) {
        const Bytes payload = numbers(n);
        ASSERT_TRUE(c.send(kType, payload));
        Bytes wire(ZSTD_compressBound(n));
        wire.resize(ZSTD_compress(wire.data(), wire.size(), payload.data(), n, 1));
        ASSERT_TRUE(c.send_compressed(kType, wire, static_cast<std::uint32_t>(n)));
    }
    Pipe in;
    in.to_read = p.written;
    auto r = channel_on(in);
    Frame f;
    for (const std::size_t n : sizes)
        for (int compressed = 0; compressed < 2; ++compressed) {
            ASSERT_TRUE(r.receive(f));
            EXPECT_EQ(f.payload, numbers(n)) << compressed;
        }
}

TEST(Frame, ALostRepeatedOrReorderedFrameShows) {
    Pipe p;
    auto c = channel_on(p);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(c.send(kType, numbers(8)));
    const auto frame = [&](std::size_t i) {
        const auto at = p.written.begin() + static_cast<std::ptrdiff_t>(i * 40);
        return Bytes(at, at + 40);
    };
    const auto second = [&](std::initializer_list<std::size_t> order) {
        Pipe in;
        for (const auto i : order) {
            const Bytes b = frame(i);
            in.to_read.insert(in.to_read.end(), b.begin(), b.end());
        }
        auto r = channel_on(in);
        EXPECT_TRUE(r.receive());
        return r.receive();
    };
    EXPECT_TRUE(second({0, 1}));
    for (const auto& f : {second({0, 0}), second({0, 2})}) {
        ASSERT_FALSE(f);
        EXPECT_NE(f.error().what.find("out of sequence"), std::string::npos);
    }
}

TEST(Channel, AStrangersFirstBytesAreExplained) {
    const char hello[] = "GET / HTTP/1.1\r\nHost: proa.example\r\n\r\n";
    const auto f = received(Bytes(hello, hello + sizeof(hello)));
    ASSERT_FALSE(f);
    EXPECT_NE(f.error().what.find("not a proa frame"), std::string::npos);
    EXPECT_NE(f.error().remedy.find("TLS"), std::string::npos);
}

}  // namespace
}  // namespace proa::transport
