#include "migrate/page_sender.hpp"

#include <bit>
#include <thread>

#include "migrate/stream.hpp"

namespace proa::migrate {
namespace {

constexpr std::uint64_t kWordsPerChunk = 8;  // of 64 pages
constexpr std::uint64_t kSocketBuffer = 2u << 20;

}  // namespace

transport::Result<void> PageSender::flush() {
    if (batch_.empty()) return {};
    const auto raw = batch_.bytes();
    const auto squeezed = compressor_.compress(raw);
    const auto type = static_cast<std::uint16_t>(Record::Pages);
    const auto start = transport::Clock::now();
    const std::uint64_t before = channel_->bytes_sent();
    auto r = squeezed.empty()
                 ? channel_->send(type, raw)
                 : channel_->send_compressed(type, squeezed, static_cast<std::uint32_t>(raw.size()));
    // What the socket's buffer took at once says nothing about the link.
    if (before > kSocketBuffer) link_.sample(channel_->bytes_sent() - before, transport::Clock::now() - start);
    compressor_.link_speed(link_.bytes_per_second());
    batch_.clear();
    std::this_thread::sleep_for(limiter_.take(channel_->bytes_sent() - before, transport::Clock::now()));
    return r;
}

transport::Result<void> PageSender::send(vmm::GuestMemory& memory, const std::vector<std::uint64_t>& words,
                                         unsigned index, unsigned of, std::uint32_t round) {
    for (std::uint64_t w = 0; w < words.size(); ++w) {
        if (words[w] == 0 || w / kWordsPerChunk % of != index) continue;
        for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
            const std::uint64_t page = w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
            batch_.add(page, memory.page(page));
            if (!batch_.full()) continue;
            if (auto r = flush(); !r) return r;
        }
    }
    if (auto r = flush(); !r) return r;
    return migrate::send(*channel_, Record::RoundEnd, encode_round(round));
}

}  // namespace proa::migrate
