#include "remus/disk_records.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace proa::remus {
namespace {

// A quarter of what a frame may hold, and as many writes as there are sectors in that.
constexpr std::size_t kMostData = 1u << 20, kMostEntries = kMostData / 512;
static_assert(kMostData + kMostEntries * sizeof(DiskWrite) < transport::kMaxPayload / 2);

}  // namespace

BlockHash hash_of(std::span<const std::uint8_t> block) {
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(block.data(), block.size()));
    BlockHash h;
    static_assert(sizeof(c.digest) == sizeof(h));
    std::memcpy(h.data(), c.digest, sizeof(h));
    return h;
}

bool all_zero(std::span<const std::uint8_t> b) {
    return b.empty() || (b[0] == 0 && std::memcmp(b.data(), b.data() + 1, b.size() - 1) == 0);
}

DiskWritesRecord& DiskRecords::with_room() {
    if (records_.empty() || records_.back().data.size() >= kMostData ||
        records_.back().writes.size() >= kMostEntries) {
        records_.emplace_back();
        records_.back().disk = disk_;
    }
    return records_.back();
}

void DiskRecords::add(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
    if (all_zero(bytes)) return add_zeroes(offset, bytes.size());
    while (!bytes.empty()) {
        DiskWritesRecord& r = with_room();
        const auto part = bytes.first(std::min(bytes.size(), kMostData - r.data.size()));
        DiskWrite* const last = r.writes.empty() ? nullptr : &r.writes.back();
        if (last != nullptr && !last->zero && last->offset + last->length == offset)
            last->length += part.size();
        else
            r.writes.push_back({offset, part.size(), false});
        r.data.insert(r.data.end(), part.begin(), part.end());
        bytes_ += part.size() + sizeof(DiskWrite);
        offset += part.size();
        bytes = bytes.subspan(part.size());
    }
}

void DiskRecords::add_zeroes(std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return;
    with_room().writes.push_back({offset, length, true});
    bytes_ += sizeof(DiskWrite);
}

std::vector<DiskWritesRecord> DiskRecords::take() {
    bytes_ = 0;
    return std::exchange(records_, {});
}

}  // namespace proa::remus
