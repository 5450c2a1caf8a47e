// User space's half of copy-on-write: which held pages still want a copy, which have one, and the copies that device models'
// writes need. proa-hv copies before a vCPU's first write and knows nothing of device models; a page may so be copied twice,
// here and there. The first copy is the right one: the second has what was written in between.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "dirtylog/bitmap.hpp"
#include "hypervisor/abi/control.hpp"
#include "vmm/guest_memory.hpp"

namespace proa::vmm {

class CopyTracker final : public WriteWatch {
  public:
    using Copied = std::function<void(std::uint64_t page, std::span<const std::uint8_t> bytes)>;

    // `pool`: where proa-hv copies to. Neither is owned.
    CopyTracker(GuestMemory& memory, std::vector<abi::CopyChunk*> pool);

    // A checkpoint: these pages are held. No vCPU runs, devices are quiet, proa-hv's pool is empty.
    void begin(const dirtylog::Bitmap& held);
    // Whoever has read a page live and finds it neither here nor in a later call has read it as it was at begin().
    void take(const Copied& f);
    void release(std::uint64_t first, std::uint64_t pages);
    void release_all();

    void before_write(std::uint64_t first_page, std::uint64_t last_page) override;
    std::uint64_t device_copies() const { return device_copies_; }  // since the tracker was made

  private:
    struct Page {
        std::uint8_t bytes[abi::kPageSize];
    };
    struct Ready {
        std::uint64_t page;
        const std::uint8_t* bytes;
    };
    void drain_pool();  // mutex_ held: notes what proa-hv has copied since the last look
    void copy_for_device(std::uint64_t page);
    void forget(std::uint64_t first, std::uint64_t last);

    GuestMemory& memory_;
    const std::vector<abi::CopyChunk*> pool_;
    std::mutex mutex_;        // the copies; bits of want_ are cleared under it, and read without
    dirtylog::Bitmap want_;   // held, and neither copied nor released
    std::uint64_t seen_ = 0;  // of the pool's copies
    std::deque<Ready> ready_;
    // Copies of device models' pages: as many as one checkpoint ever needed, at most one for each page it held.
    std::vector<std::unique_ptr<Page>> own_;
    std::size_t own_used_ = 0;
    std::uint64_t device_copies_ = 0;
};

}  // namespace proa::vmm
