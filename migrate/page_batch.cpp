#include "migrate/page_batch.hpp"

#include <cstring>

namespace proa::migrate {
namespace {

constexpr std::uint64_t kZeroBit = 1ull << 63;

}  // namespace

bool is_zero(std::span<const std::uint8_t> page) {
    const auto* p = reinterpret_cast<const std::uint64_t*>(page.data());
    const std::size_t words = page.size() / 8;
    for (std::size_t i = 0; i < words; i += 8) {
        std::uint64_t any = 0;
        for (std::size_t j = 0; j < 8; ++j) any |= p[i + j];
        if (any != 0) return false;
    }
    return true;
}

void BatchEncoder::add(std::uint64_t number, std::span<const std::uint8_t> page) {
    if (is_zero(page)) {
        entries_.push_back(number | kZeroBit);
        ++counts_.zero;
        return;
    }
    entries_.push_back(number);
    plain_.insert(plain_.end(), page.begin(), page.end());
    ++counts_.plain;
}

std::span<const std::uint8_t> BatchEncoder::bytes() {
    const std::uint64_t count = entries_.size();
    out_.resize(8 + 8 * entries_.size() + plain_.size());
    std::memcpy(out_.data(), &count, 8);
    std::memcpy(out_.data() + 8, entries_.data(), 8 * entries_.size());
    if (!plain_.empty()) std::memcpy(out_.data() + 8 + 8 * entries_.size(), plain_.data(), plain_.size());
    return out_;
}

void BatchEncoder::clear() {
    entries_.clear();
    plain_.clear();
}

transport::Result<BatchCounts> apply_batch(std::span<const std::uint8_t> record, std::span<std::uint8_t> ram) {
    const auto refuse = [](const char* why) {
        return transport::fail(transport::ErrorKind::Protocol, std::string("page batch refused: ") + why);
    };
    std::uint64_t count = 0;
    if (record.size() < 8) return refuse("too short");
    std::memcpy(&count, record.data(), 8);
    if (count == 0 || count > kMaxBatch) return refuse("page count out of range");
    if (record.size() < 8 + 8 * count) return refuse("too short");
    std::uint64_t entries[kMaxBatch];
    std::memcpy(entries, record.data() + 8, 8 * count);
    BatchCounts n;
    const std::uint64_t pages = ram.size() / kPageBytes;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t number = entries[i] & ~kZeroBit;
        if (number >= pages) return refuse("a page outside of guest memory");
        if (i > 0 && number <= (entries[i - 1] & ~kZeroBit)) return refuse("pages out of order");
        ((entries[i] & kZeroBit) != 0 ? n.zero : n.plain) += 1;
    }
    if (record.size() != 8 + 8 * count + n.plain * kPageBytes) return refuse("length does not match its pages");
    const std::uint8_t* from = record.data() + 8 + 8 * count;
    for (std::uint64_t i = 0; i < count; ++i) {
        auto page = ram.subspan((entries[i] & ~kZeroBit) * kPageBytes, kPageBytes);
        if ((entries[i] & kZeroBit) == 0) {
            std::memcpy(page.data(), from, kPageBytes);
            from += kPageBytes;
        } else if (!is_zero(page)) {  // untouched memory stays untouched
            std::memset(page.data(), 0, kPageBytes);
        }
    }
    return n;
}

}  // namespace proa::migrate
