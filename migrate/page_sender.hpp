// One data channel of an outgoing migration and what it needs to fill it: batches, compression, a rate limit.
#pragma once
#include <memory>
#include <vector>

#include "migrate/page_batch.hpp"
#include "transport/channel.hpp"
#include "transport/rate.hpp"
#include "vmm/guest_memory.hpp"

namespace proa::migrate {

class PageSender {
  public:
    PageSender(std::unique_ptr<transport::Channel> c, int compress, std::uint64_t bytes_per_second)
        : channel_(std::move(c)), compressor_(compress), limiter_(bytes_per_second) {}

    // This sender's share of a round (`words`: the dirty bitmap), then RoundEnd. The share is every `of`th chunk of
    // 2 MiB, so a page has one channel for good and its copies can't overtake each other.
    transport::Result<void> send(vmm::GuestMemory& memory, const std::vector<std::uint64_t>& words,
                                 unsigned index, unsigned of, std::uint32_t round);
    transport::Channel& channel() { return *channel_; }
    void cancel() { channel_->cancel(); }
    std::uint64_t bytes_sent() const { return channel_->bytes_sent(); }
    const BatchCounts& counts() const { return batch_.counts(); }

  private:
    transport::Result<void> flush();
    std::unique_ptr<transport::Channel> channel_;
    transport::Compressor compressor_;
    transport::RateLimiter limiter_;
    transport::BandwidthEstimator link_;
    BatchEncoder batch_;
};

}  // namespace proa::migrate
