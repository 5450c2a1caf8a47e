// A split virtqueue, device side (virtio 1.2, 2.7), with indirect descriptors and event index. Everything in it is
// written by the guest: indexes, addresses, lengths and chains are checked before use, and a broken queue is reported,
// not survived silently.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/blob.hpp"
#include "vmm/guest_memory.hpp"

namespace proa::vmm {

struct Segment {
    std::span<std::uint8_t> bytes;
    std::uint64_t gpa = 0;
};

// One request: the driver's buffers in order, device-readable ones first (2.7.4.2).
struct Chain {
    std::uint16_t head = 0;
    std::vector<Segment> readable, writable;
};

class SplitQueue {
  public:
    static constexpr std::uint16_t kMaxSize = 256;

    // Set by the transport from the driver's registers.
    std::uint16_t size = 0;
    bool ready = false;
    std::uint64_t desc = 0, avail = 0, used = 0;

    void reset() { *this = SplitQueue{}; }
    // Whether the three areas lie in RAM and are aligned; asked when the driver sets QueueReady.
    bool valid(GuestMemory& m) const;

    enum class Pop : std::uint8_t { Empty, Got, Broken };
    // Got: what `out` says is writable has been announced (GuestMemory::before_write).
    Pop pop(GuestMemory& m, Chain& out);
    // The last `n` chains that were popped weren't, if they have not been used and were all popped after those that have.
    void unpop(std::uint16_t n) { last_avail_ = static_cast<std::uint16_t>(last_avail_ - n); }
    void push(GuestMemory& m, std::uint16_t head, std::uint32_t written);
    // After push()es: whether the driver wants an interrupt for them (2.7.7).
    bool wants_interrupt(GuestMemory& m, bool event_idx);
    // Whether an interrupt that was asked for may not have been seen: as far as the driver's word tells.
    bool unseen(GuestMemory& m, bool event_idx) const;
    // Asks the driver to notify for the next buffer, or not to; true if one slipped in meanwhile.
    bool enable_notify(GuestMemory& m, bool event_idx);

    void save(BlobWriter& w) const;
    bool load(BlobReader& r);
    bool has_work(GuestMemory& m) const;

  private:
    bool add_chain(GuestMemory& m, std::span<const std::uint8_t> table, std::uint16_t first, Chain& out,
                   bool indirect);
    std::uint16_t last_avail_ = 0, used_idx_ = 0, signalled_ = 0;
};

}  // namespace proa::vmm
