// A hostile primary (and, for the records that it sends, a hostile backup). The first byte chooses: a session of frames against
// a CheckpointBuffer, one record's decoder, or a page's delta. What takes knowledge to get right (checks of deltas, counts of
// an End) is mended if a frame asks for it, so that the fuzzer gets past it.
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "remus/checkpoint_buffer.hpp"
#include "remus/page_delta.hpp"
#include "remus/page_record.hpp"
#include "tests/support/checkpoint.hpp"

using namespace proa;
using namespace proa::remus;

namespace {

constexpr std::uint64_t kMost = 128 << 10;

void must(bool b) {
    if (!b) std::abort();
}

class Input {
  public:
    explicit Input(View b) : rest_(b) {}
    bool empty() const { return rest_.empty(); }
    std::uint8_t byte() { return rest_.empty() ? 0 : take(1)[0]; }
    Bytes some() {  // a length of two bytes, then so many
        const std::size_t low = byte(), n = low | static_cast<std::size_t>(byte()) << 8;
        const View b = take(n);
        return {b.begin(), b.end()};
    }

  private:
    View take(std::size_t n) {
        const View b = rest_.first(std::min(n, rest_.size()));
        rest_ = rest_.subspan(b.size());
        return b;
    }
    View rest_;
};

std::uint64_t count_of(const Bytes& pages) {
    std::uint64_t n = 0;
    std::memcpy(&n, pages.data(), 8);
    return n;
}

// The check of every delta that is well formed becomes the right one.
Bytes mended_pages(Bytes b, const Bytes& ram) {
    if (b.size() < 8) return b;
    const std::uint64_t count = count_of(b);
    if (count > kMaxPages || b.size() < 8 + 8 * count) return b;
    std::size_t at = 8 + 8 * count;
    for (std::uint64_t i = 0; i < count; ++i) {
        std::uint64_t packed = 0;
        std::memcpy(&packed, b.data() + 8 + 8 * i, 8);
        const auto e = page_record::Entry::unpack(packed);
        if (e.number >= ram.size() / kPageBytes) return b;
        const std::size_t length = e.kind == page_record::Kind::Plain ? kPageBytes : e.length;
        if (length > b.size() - at) return b;
        if (e.kind == page_record::Kind::Delta && length > 8) {
            std::uint8_t page[kPageBytes];
            std::memcpy(page, ram.data() + e.number * kPageBytes, kPageBytes);
            if (!apply_delta(View(b).subspan(at + 8, length - 8), page)) return b;
            const std::uint64_t check = XXH3_128bits(page, kPageBytes).low64;
            std::memcpy(b.data() + at, &check, 8);
        }
        at += length;
    }
    return b;
}

class Session {
  public:
    Session() : buffer_(ram_, test::kDisks, test::kDevices, test::kTerm, kMost) {}

    void run(Input in) {
        for (unsigned frames = 0; !in.empty() && frames < 64; ++frames) {
            const std::uint8_t kind = in.byte();
            take(frame(kind, in.some()));
            if (buffer_.complete()) commit();
        }
    }

  private:
    // Kinds 0 ... 7 send the payload as it is; 8 ... 15 what an honest primary would have in that place.
    transport::Frame frame(std::uint8_t kind, Bytes b) {
        const bool honest = (kind & 8) != 0;
        switch (kind & 7) {
            case 0:
                if (honest) b = encode(BeginRecord{test::kTerm, buffer_.epoch() + 1});
                return test::frame(Record::Begin, std::move(b));
            case 1: return test::frame(Record::Pages, honest ? mended_pages(std::move(b), ram_) : std::move(b));
            case 2: return test::frame(Record::DiskWrites, std::move(b));
            case 3:
                if (honest) b = migrate::encode_machine(test::small_machine());
                return test::frame(migrate::Record::Machine, std::move(b));
            case 4:
                if (honest) b = migrate::encode_device({test::kDevices[kind >> 4 & 1], std::move(b)});
                return test::frame(migrate::Record::Device, std::move(b));
            case 5:
                if (honest)
                    b = encode(EndRecord{test::kTerm, buffer_.epoch(), pages_, writes_, 2, (kind & 16) != 0});
                return test::frame(Record::End, std::move(b));
            case 6: return test::frame(migrate::Record::Abort, std::move(b));
            default: return test::frame(static_cast<std::uint16_t>(0x8000 | kind), std::move(b));
        }
    }
    void take(const transport::Frame& f) {
        const auto r = buffer_.take(f);
        must(ram_ == before_ && buffer_.held_bytes() <= kMost);
        if (!r || is(f, Record::Begin)) pages_ = writes_ = 0;
        if (!r) return must(!r.error().what.empty());
        if (is(f, Record::Pages)) pages_ += count_of(f.payload);
        if (is(f, Record::DiskWrites)) writes_ += decode_disk_writes(f.payload)->writes.size();
    }
    void commit() {
        const std::uint64_t epoch = buffer_.epoch();
        const auto c = buffer_.commit();
        must(c.epoch == epoch && c.pages == pages_ && c.pages <= test::kRamPages);
        must(c.devices.size() == test::kDevices.size() && !c.machine.vcpus.empty());
        for (const auto& r : c.disk_writes)
            for (const auto& w : r.writes)
                must(w.length != 0 && w.offset + w.length <= test::kDisks.at(r.disk));
        before_ = ram_;
    }

    Bytes ram_ = Bytes(test::kRamPages * kPageBytes), before_ = ram_;
    CheckpointBuffer buffer_;
    std::uint64_t pages_ = 0, writes_ = 0;
};

// What is accepted must survive being written again.
template <class R>
void again(const transport::Result<R>& r, transport::Result<R> (*decode)(View)) {
    if (!r) return must(!r.error().what.empty());
    const Bytes b = encode(*r);
    const auto back = decode(b);
    must(back && encode(*back) == b);
}

void one_record(std::uint8_t kind, View b) {
    switch (kind % 8) {
        case 0: again(decode_hello(b), decode_hello); break;
        case 1: again(decode_epoch(b), decode_epoch); break;
        case 2: again(decode_begin(b), decode_begin); break;
        case 3: again(decode_end(b), decode_end); break;
        case 4: again(decode_ack(b), decode_ack); break;
        case 5: again(decode_beat(b), decode_beat); break;
        case 6: again(decode_disk_hashes(b), decode_disk_hashes); break;
        case 7: again(decode_disk_writes(b), decode_disk_writes); break;
    }
}

// Any change of a page, through the encoder and back; and the bytes as a delta themselves.
void delta(View b) {
    Bytes base(kPageBytes), page, room(kPageBytes);
    for (std::size_t i = 0; i < kPageBytes; ++i) base[i] = static_cast<std::uint8_t>(i * 7);
    page = base;
    for (std::size_t i = 0; i + 2 < b.size(); i += 3) page[(b[i] | b[i + 1] << 8) % kPageBytes] ^= b[i + 2];
    if (const auto n = encode_delta(page.data(), base.data(), room); n != 0) {
        Bytes back = base;
        must(apply_delta(View(room).first(n), back.data()) && back == page);
    }
    (void)apply_delta(b, base.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const View rest(data + 1, size - 1);
    switch (data[0] % 4) {
        case 0: one_record(rest[0], rest.subspan(1)); break;
        case 1: delta(rest); break;
        default: Session().run(Input(rest)); break;
    }
    return 0;
}
