// Guest RAM and the control area: one memfd of 2 MiB huge pages, locked where it is, with its physical addresses
// (/proc/self/pagemap, Linux Documentation/admin-guide/mm/pagemap.rst). proad holds the memfd too, so that the pages of
// a killed proa-vm are not freed under a guest that still writes.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/error.hpp"

namespace proa::vmm {

Result<int> create_huge_memfd(const std::string& name, std::uint64_t bytes);

class HugeMemory {
  public:
    static constexpr std::uint64_t kChunk = 2ull << 20;
    // Takes `fd`. Every page is present and its physical address known when this returns.
    static Result<std::unique_ptr<HugeMemory>> map(int fd, std::uint64_t bytes);
    ~HugeMemory();
    // More of the same memfd, behind what it has (nothing was appended yet); it shrinks again with the piece, which goes first.
    // Whoever holds the memfd holds this too: proa-hv may write it until a killed process's guest has been stopped.
    Result<std::unique_ptr<HugeMemory>> append(std::uint64_t bytes, const std::string& what);
    HugeMemory(const HugeMemory&) = delete;
    HugeMemory& operator=(const HugeMemory&) = delete;

    std::span<std::uint8_t> bytes() { return {base_, size_}; }
    std::uint64_t physical(std::uint64_t chunk) const { return physical_[chunk]; }
    std::uint64_t chunks() const { return physical_.size(); }

  private:
    HugeMemory(int fd, std::uint8_t* base, std::uint64_t size) : fd_(fd), base_(base), size_(size) {}
    Result<void> find_physical();
    int fd_;
    std::uint8_t* base_;
    std::uint64_t size_;
    std::uint64_t appended_at_ = 0;  // 0: it is all of the file that counts
    std::vector<std::uint64_t> physical_;
};

}  // namespace proa::vmm
