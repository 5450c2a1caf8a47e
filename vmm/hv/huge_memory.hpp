// Guest RAM and the control area: one memfd of 2 MiB huge pages (which Linux doesn't swap; docs/OPERATING.md says what must
// not move them) with its physical addresses (/proc/self/pagemap, Linux Documentation/admin-guide/mm/pagemap.rst). proad
// holds the memfd too, so that the pages of a killed proa-vm are not freed under a guest that still writes.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/error.hpp"

namespace proa::vmm {

// Its pages are reserved, so that they can't run out later, but not there yet: making them so means to zero them all, for
// seconds where a guest is large.
Result<int> create_huge_memfd(const std::string& name, std::uint64_t bytes);

class HugeMemory {
  public:
    static constexpr std::uint64_t kChunk = 2ull << 20;
    // Takes `fd`; one that was written before is refused. May be written as it is, by this process alone; what others are given
    // the address of is populated first.
    static Result<std::unique_ptr<HugeMemory>> map(int fd, std::uint64_t bytes);
    ~HugeMemory();
    // More of the same memfd, behind what it has (nothing was appended yet); it shrinks again with the piece, which goes first.
    // Whoever holds the memfd holds this too: proa-hv may write it until a killed process's guest has been stopped.
    Result<std::unique_ptr<HugeMemory>> append(std::uint64_t bytes, const std::string& what);
    HugeMemory(const HugeMemory&) = delete;
    HugeMemory& operator=(const HugeMemory&) = delete;

    // Makes chunks present, with what was written to them so far, and learns where they are. Any thread, also while others
    // write the memory; each chunk by one.
    Result<void> populate(std::uint64_t first, std::uint64_t count);

    std::span<std::uint8_t> bytes() { return {base_, size_}; }
    std::uint64_t physical(std::uint64_t chunk) const { return physical_[chunk]; }  // of a populated one
    std::uint64_t chunks() const { return physical_.size(); }

  private:
    HugeMemory(int fd, std::uint8_t* base, std::uint64_t size)
        : fd_(fd), base_(base), size_(size), physical_(size / kChunk) {}
    int fd_;
    std::uint8_t* base_;
    std::uint64_t size_;
    std::uint64_t appended_at_ = 0;  // 0: it is all of the file that counts
    std::vector<std::uint64_t> physical_;
};

}  // namespace proa::vmm
