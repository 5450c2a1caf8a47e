// Contents of pages as the backup has them, for deltas; bounded. Four-way set associative by page number. A page that was
// sent in this checkpoint or the one before is not pushed out: a guest that writes more than fits here goes on getting
// deltas for what is here, instead of none at all because each page pushes out one that is about to be needed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace proa::remus {

class PageCache {
  public:
    PageCache(std::uint64_t pages, std::uint64_t bytes);
    // What the backup has of a page; null: not here. Counts as sent in this checkpoint.
    const std::uint8_t* find(std::uint64_t page);
    void put(std::uint64_t page, const std::uint8_t* bytes);  // may decide not to
    void drop(std::uint64_t page);
    void next_checkpoint() { ++checkpoint_; }
    void clear();

  private:
    static constexpr std::size_t kWays = 4;
    static constexpr std::uint64_t kNone = ~0ull, kStaysFor = 2;  // checkpoints
    struct Slot {
        std::uint64_t page = kNone, sent = 0;  // in checkpoint
    };
    Slot* set_of(std::uint64_t page) { return slots_.data() + page % sets_ * kWays; }
    Slot* slot_of(std::uint64_t page);
    std::uint8_t* bytes_of(const Slot* s);

    std::size_t sets_;
    std::uint64_t checkpoint_ = kStaysFor;
    std::vector<Slot> slots_;
    std::unique_ptr<std::uint8_t[]> bytes_;  // a page a slot; memory that no page came to is never touched
};

}  // namespace proa::remus
