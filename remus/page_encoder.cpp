#include <xxhash.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "migrate/page_batch.hpp"
#include "remus/page_cache.hpp"
#include "remus/page_record.hpp"

namespace proa::remus {
namespace {

using page_record::Entry;
using page_record::Kind;

constexpr std::size_t kMostEntries = page_record::kHeaderBytes + page_record::kEntryBytes * kMaxPages;
alignas(64) constexpr std::uint8_t kZeroPage[kPageBytes] = {};
// A page that the backup hasn't got from us. A page whose hash this happens to be is sent every time: harmless.
constexpr XXH128_hash_t kUnknown = {0, 0};

bool same(const XXH128_hash_t& a, const XXH128_hash_t& b) {
    return a.low64 == b.low64 && a.high64 == b.high64;
}

}  // namespace

struct PageEncoder::Impl {
    Impl(std::uint64_t pages, std::uint64_t cache_bytes) : hashes(pages, kUnknown), cache(pages, cache_bytes) {}

    // What the backup has of a page, if we still know. Zero needs no cache.
    const std::uint8_t* base_of(std::uint64_t number) {
        return same(hashes[number], zero_hash) ? kZeroPage : cache.find(number);
    }
    std::span<std::uint8_t> room() { return std::span(*buffer).subspan(kMostEntries + payload); }
    void enter(Entry e, std::uint64_t bytes) {
        entries[count++] = e.packed();
        payload += bytes;
    }
    void encode(std::uint64_t number, const std::uint8_t* page, const XXH128_hash_t& hash);

    const XXH128_hash_t zero_hash = XXH3_128bits(kZeroPage, kPageBytes);
    std::vector<XXH128_hash_t> hashes;  // of what the backup has from us
    PageCache cache;
    PageCounts counts;
    unsigned count = 0;  // entries in the record
    std::uint64_t payload = 0, last = 0;
    std::uint64_t entries[kMaxPages];
    // Room for the most entries, then the payload: what is taken begins where the entries there are fit in before it.
    using Buffer = std::array<std::uint8_t, kMostEntries + kMaxPages * kPageBytes>;
    std::unique_ptr<Buffer> buffer = std::make_unique<Buffer>();
};

PageEncoder::PageEncoder(std::uint64_t pages, std::uint64_t cache_bytes)
    : impl_(std::make_unique<Impl>(pages, cache_bytes)) {}
PageEncoder::~PageEncoder() = default;

void PageEncoder::Impl::encode(std::uint64_t number, const std::uint8_t* page, const XXH128_hash_t& hash) {
    const auto to = room().first(kPageBytes);
    if (const std::uint8_t* base = base_of(number)) {
        const auto most = page_record::kMostDelta - page_record::kCheckBytes;
        if (const auto n = encode_delta(page, base, to.subspan(page_record::kCheckBytes, most)); n != 0) {
            std::memcpy(to.data(), &hash.low64, page_record::kCheckBytes);
            const auto length = page_record::kCheckBytes + n;
            enter({number, static_cast<std::uint32_t>(length), Kind::Delta}, length);
            ++counts.delta;
            return;
        }
    }
    std::memcpy(to.data(), page, kPageBytes);
    enter({number, 0, Kind::Plain}, kPageBytes);
    ++counts.plain;
}

void PageEncoder::add(std::uint64_t number, std::span<const std::uint8_t> bytes) {
    Impl& i = *impl_;
    if (number >= i.hashes.size() || bytes.size() != kPageBytes || full() || (i.count != 0 && number <= i.last))
        throw std::logic_error("PageEncoder::add: not a page of this guest, or not its turn");
    const bool zero = migrate::is_zero(bytes);
    const XXH128_hash_t hash = zero ? i.zero_hash : XXH3_128bits(bytes.data(), kPageBytes);
    if (same(hash, i.hashes[number])) {
        (void)i.cache.find(number);  // written to, if with the same: stays
        ++i.counts.unchanged;
        return;
    }
    if (zero) {
        i.enter({number, 0, Kind::Zero}, 0);
        i.cache.drop(number);
        ++i.counts.zero;
    } else {
        i.encode(number, bytes.data(), hash);
        i.cache.put(number, bytes.data());
    }
    i.hashes[number] = hash;
    i.last = number;
}

bool PageEncoder::full() const {
    return impl_->count == kMaxPages;
}
bool PageEncoder::empty() const {
    return impl_->count == 0;
}

std::span<const std::uint8_t> PageEncoder::take() {
    Impl& i = *impl_;
    if (i.count == 0) return {};
    const std::uint64_t n = i.count, entry_bytes = page_record::kEntryBytes * n;
    const auto record = std::span(*i.buffer).subspan(kMostEntries - page_record::kHeaderBytes - entry_bytes,
                                                     page_record::kHeaderBytes + entry_bytes + i.payload);
    std::memcpy(record.data(), &n, page_record::kHeaderBytes);
    std::memcpy(record.data() + page_record::kHeaderBytes, i.entries, entry_bytes);
    i.counts.bytes += record.size();
    i.count = 0;
    i.payload = 0;
    return record;
}

void PageEncoder::commit() {
    impl_->cache.next_checkpoint();
}

void PageEncoder::reset() {
    Impl& i = *impl_;
    std::fill(i.hashes.begin(), i.hashes.end(), kUnknown);
    i.cache.clear();
    i.count = 0;
    i.payload = 0;
}

const PageCounts& PageEncoder::counts() const {
    return impl_->counts;
}

}  // namespace proa::remus
