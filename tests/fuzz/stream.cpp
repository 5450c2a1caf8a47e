// A hostile source, as a destination's data channel and greeting see it: frames, skipping, hellos, page batches. The
// first byte chooses whether checksums are mended, so that the fuzzer gets past them.
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "migrate/page_batch.hpp"
#include "migrate/stream.hpp"
#include "tests/support/memory_stream.hpp"

using namespace proa;

namespace {

// What the bytes would be if every frame in them were sealed as its header says.
test::Bytes mended(test::Bytes b) {
    std::uint64_t sequence = 0;
    for (std::size_t at = 0; b.size() - at >= sizeof(transport::FrameHeader);) {
        transport::FrameHeader h;
        std::memcpy(&h, b.data() + at, sizeof(h));
        const std::size_t room = b.size() - at - sizeof(h), length = std::min<std::size_t>(h.length, room);
        const std::span<const std::uint8_t> payload(b.data() + at + sizeof(h), length);
        const bool zstd = (h.flags & transport::frame_flag::Zstd) != 0;
        h = transport::seal_frame(h.type, h.flags & transport::frame_flag::Zstd,
                                  zstd ? h.raw_length : static_cast<std::uint32_t>(length), sequence++,
                                  payload);
        std::memcpy(b.data() + at, &h, sizeof(h));
        at += sizeof(h) + length;
    }
    return b;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    test::Pipe pipe;
    pipe.to_read.assign(data + 1, data + size);
    if ((data[0] & 1) != 0) pipe.to_read = mended(std::move(pipe.to_read));
    auto channel = test::channel_on(pipe);
    static std::vector<std::uint8_t> ram(64 * migrate::kPageBytes);
    for (;;) {
        const auto f = migrate::receive(channel);
        if (!f) return 0;
        if (f->payload.size() > transport::kMaxPayload) std::abort();
        if (migrate::is(*f, migrate::Record::Pages))
            (void)migrate::apply_batch(f->payload, ram);
        else if (migrate::is(*f, migrate::Record::Hello))
            (void)migrate::decode_hello(f->payload);
        else
            (void)migrate::unexpected_record(*f);
    }
}
