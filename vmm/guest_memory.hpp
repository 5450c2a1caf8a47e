// A guest's RAM as proa-vm sees it: one contiguous mapping of 2 MiB huge pages (a memfd that proad holds
// too), RAM page n at guest address kRamBase + n * 4096. Device models go through `slice`, which checks
// bounds, say what they are going to write through `before_write` and what they wrote through `mark_dirty`: their stores take
// no stage-2 fault.
#pragma once
#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>

#include "dirtylog/bitmap.hpp"
#include "hypervisor/abi/platform.hpp"

namespace proa::vmm {

// Who must see pages as they are before a device model writes them (vmm/checkpointer.hpp). Any thread.
struct WriteWatch {
    virtual ~WriteWatch() = default;
    virtual void before_write(std::uint64_t first_page, std::uint64_t last_page) = 0;
};

class GuestMemory {
  public:
    // `ram` is not owned. Its size is a multiple of 2 MiB.
    explicit GuestMemory(std::span<std::uint8_t> ram)
        : ram_(ram), written_(ram.size() / 4096), ever_((ram.size() + kChunk - 1) / kChunk) {}

    std::uint64_t size() const { return ram_.size(); }
    std::uint64_t pages() const { return ram_.size() / 4096; }
    std::span<std::uint8_t> bytes() { return ram_; }
    std::span<std::uint8_t> page(std::uint64_t n) { return ram_.subspan(n * 4096, 4096); }

    // The bytes at [gpa, gpa + length), or nothing if any of them is not RAM.
    std::optional<std::span<std::uint8_t>> slice(std::uint64_t gpa, std::uint64_t length) {
        if (gpa < abi::kRamBase || length > ram_.size() || gpa - abi::kRamBase > ram_.size() - length)
            return {};
        return ram_.subspan(gpa - abi::kRamBase, length);
    }

    // A device model is about to write some of [gpa, gpa + length) (must have come from slice()). Any thread.
    void before_write(std::uint64_t gpa, std::uint64_t length) {
        WriteWatch* w = watch_.load(std::memory_order_relaxed);
        if (w == nullptr || length == 0) return;
        w->before_write((gpa - abi::kRamBase) / 4096, (gpa - abi::kRamBase + length - 1) / 4096);
    }
    // Null: nobody. Not owned. Only while no device model writes (all on the guest's thread, or quiesced): nothing orders it.
    void watch(WriteWatch* w) { watch_.store(w, std::memory_order_relaxed); }

    // A device model wrote [gpa, gpa + length) (must have come from slice()). Any thread.
    void mark_dirty(std::uint64_t gpa, std::uint64_t length) {
        if (length == 0) return;
        const std::uint64_t first = (gpa - abi::kRamBase) / 4096,
                            last = (gpa - abi::kRamBase + length - 1) / 4096;
        for (std::uint64_t p = first; p <= last; ++p) written_.set(p);
        for (std::uint64_t c = first / kChunkPages; c <= last / kChunkPages; ++c)
            if (!ever_.test(c)) ever_.set(c);
    }
    // Others than device models write it, or have (a move that arrives, a backup): all of it counts as written by them.
    void mark_all_written() { ever_.fill(); }
    // It was new before these pages came from elsewhere; only they count. While no device model writes.
    void came_with(const dirtylog::BitmapView& pages) {
        ever_.drain([](std::uint64_t, std::uint64_t) {});
        pages.for_each([this](std::uint64_t w, std::uint64_t) { ever_.set(w * 64 / kChunkPages); });
    }

    // Pages device models wrote since the last call, moved into `into`.
    void take_device_writes(dirtylog::Bitmap& into) { written_.drain_into(into); }
    // Adds all pages that device models have written since this was made, whoever took them meanwhile, or more (2 MiB). Others
    // have only what the guest wrote; new memory is zero.
    void add_ever_written(dirtylog::Bitmap& into) const {
        ever_.for_each([&](std::uint64_t w, std::uint64_t chunks) {
            for (; chunks != 0; chunks &= chunks - 1) {
                const std::uint64_t chunk = w * 64 + static_cast<std::uint64_t>(std::countr_zero(chunks));
                const std::uint64_t first = chunk * kChunkPages / 64;
                for (std::uint64_t i = first; i < first + kChunkPages / 64 && i < into.words(); ++i)
                    into.or_word(i, ~0ull);
            }
        });
    }

  private:
    static constexpr std::uint64_t kChunk = 2u << 20, kChunkPages = kChunk / 4096;
    std::span<std::uint8_t> ram_;
    dirtylog::Bitmap written_;
    dirtylog::Bitmap ever_;  // a bit a chunk
    std::atomic<WriteWatch*> watch_{nullptr};
};

}  // namespace proa::vmm
