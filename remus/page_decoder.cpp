#include <xxhash.h>

#include <cstring>

#include "remus/page_record.hpp"

namespace proa::remus {
namespace {

using page_record::Entry;
using page_record::Kind;

tl::unexpected<transport::Error> refuse(const char* why) {
    return transport::fail(transport::ErrorKind::Protocol, std::string("peer's pages refused: ") + why);
}

struct Shape {
    std::vector<Entry> entries;
    std::span<const std::uint8_t> payload;
    std::uint64_t whole = 0;  // pages with contents, once decoded
};

// Everything that can be known without looking at contents.
transport::Result<Shape> shape_of(std::span<const std::uint8_t> record, std::uint64_t ram_pages) {
    std::uint64_t count = 0;
    if (record.size() < page_record::kHeaderBytes) return refuse("too short");
    std::memcpy(&count, record.data(), page_record::kHeaderBytes);
    record = record.subspan(page_record::kHeaderBytes);
    if (count == 0 || count > kMaxPages) return refuse("page count out of range");
    if (record.size() < page_record::kEntryBytes * count) return refuse("too short");
    Shape s;
    s.payload = record.subspan(page_record::kEntryBytes * count);
    s.entries.reserve(count);
    std::uint64_t payload = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        std::uint64_t packed = 0;
        std::memcpy(&packed, record.data() + page_record::kEntryBytes * i, page_record::kEntryBytes);
        const Entry e = Entry::unpack(packed);
        if (e.number >= ram_pages) return refuse("a page outside of guest memory");
        if (i > 0 && e.number <= s.entries.back().number) return refuse("pages out of order");
        switch (e.kind) {
            case Kind::Plain: payload += kPageBytes; break;
            case Kind::Zero: break;
            case Kind::Delta: payload += e.length; break;
            default: return refuse("an unknown kind of page");
        }
        const bool fits = e.kind == Kind::Delta ? e.length >= page_record::kCheckBytes + kLeastDelta &&
                                                      e.length <= page_record::kMostDelta
                                                : e.length == 0;
        if (!fits) return refuse("a page of an impossible length");
        s.whole += e.kind != Kind::Zero;
        s.entries.push_back(e);
    }
    if (payload != s.payload.size()) return refuse("length does not match its pages");
    return s;
}

const char* undo_delta(std::span<const std::uint8_t> delta, const std::uint8_t* base, std::uint8_t* to) {
    std::memcpy(to, base, kPageBytes);
    if (!apply_delta(delta.subspan(page_record::kCheckBytes), to)) return "a malformed delta";
    std::uint64_t check = 0;
    std::memcpy(&check, delta.data(), page_record::kCheckBytes);
    if (XXH3_128bits(to, kPageBytes).low64 != check)
        return "a delta against something that this backup doesn't have";
    return nullptr;
}

}  // namespace

transport::Result<PageUpdates> decode_pages(std::span<const std::uint8_t> record,
                                            std::span<const std::uint8_t> base, std::uint64_t most_bytes) {
    auto shape = shape_of(record, base.size() / kPageBytes);
    if (!shape) return tl::unexpected(shape.error());
    PageUpdates u;
    u.held_bytes = shape->entries.size() * sizeof(PageUpdate) + shape->whole * kPageBytes;
    if (u.held_bytes > most_bytes) return refuse("more of them than this backup may hold");
    u.pages.reserve(shape->entries.size());
    u.bytes.reset(new std::uint8_t[shape->whole * kPageBytes]);
    std::uint8_t* to = u.bytes.get();
    for (const Entry& e : shape->entries) {
        if (e.kind == Kind::Zero) {
            u.pages.push_back({e.number, {}});
            continue;
        }
        const std::size_t length = e.kind == Kind::Plain ? kPageBytes : e.length;
        const auto from = shape->payload.first(length);
        shape->payload = shape->payload.subspan(length);
        if (e.kind == Kind::Plain)
            std::memcpy(to, from.data(), kPageBytes);
        else if (const char* why = undo_delta(from, base.data() + e.number * kPageBytes, to))
            return refuse(why);
        u.pages.push_back({e.number, {to, kPageBytes}});
        to += kPageBytes;
    }
    return u;
}

}  // namespace proa::remus
