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
    std::memcpy(out_.data() + end_, page.data(), kPageBytes);
    end_ += kPageBytes;
    ++counts_.plain;
}

// The pages are where they are, so that none is copied twice: what comes before them goes up against them.
std::span<const std::uint8_t> BatchEncoder::bytes() {
    const std::uint64_t count = entries_.size();
    std::uint8_t* const begin = out_.data() + kMostBefore - 8 - 8 * count;
    std::memcpy(begin, &count, 8);
    std::memcpy(begin + 8, entries_.data(), 8 * count);
    return {begin, out_.data() + end_};
}

void BatchEncoder::clear() {
    entries_.clear();
    end_ = kMostBefore;
}

transport::Result<BatchCounts> apply_batch(std::span<const std::uint8_t> record, std::span<std::uint8_t> ram,
                                           dirtylog::BitmapView* written) {
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
        const std::uint64_t number = entries[i] & ~kZeroBit;
        auto page = ram.subspan(number * kPageBytes, kPageBytes);
        if ((entries[i] & kZeroBit) == 0) {
            if (written != nullptr) written->set(number);
            std::memcpy(page.data(), from, kPageBytes);
            from += kPageBytes;
        } else if ((written == nullptr || written->test(number)) && !is_zero(page)) {
            std::memset(page.data(), 0, kPageBytes);  // untouched memory stays untouched
        }
    }
    return n;
}

}  // namespace proa::migrate
