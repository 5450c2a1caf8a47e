// The guest's memory as it was at a checkpoint's pause, while the guest runs on: held pages are read live, and where somebody
// was about to write one first, from the copy made before that write.
#pragma once
#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "vmm/checkpointer.hpp"
#include "vmm/guest_memory.hpp"

namespace proa::remus {

class HeldImage final : public vmm::WriteWatch {
  public:
    HeldImage(vmm::GuestMemory& memory, vmm::Checkpointer& checkpoints);

    // In the pause, after Checkpointer::hold(): `words` says what is held, 64 pages a word.
    void begin(std::vector<std::uint64_t> words);
    const std::vector<std::uint64_t>& words() const { return words_; }
    // The sender's thread. The held pages of one word, each into its place of `to` (64 pages); device models may write
    // them freely from here on.
    void read(std::uint64_t word, std::span<std::uint8_t> to);
    void end();                    // before Checkpointer::release_all(): the copies are about to go
    std::uint64_t copied() const;  // pages of this checkpoint that had to be copied

    // A device model's store. Which came first, a vCPU's write or this one? proa-hv publishes its copy before the vCPU may
    // write: if it has published none after this page was copied here, this copy is from before any write.
    void before_write(std::uint64_t first_page, std::uint64_t last_page) override;

  private:
    void absorb();  // what proa-hv has copied
    vmm::GuestMemory& memory_;
    vmm::Checkpointer& checkpoints_;
    mutable std::mutex mutex_;
    std::vector<std::uint64_t> words_;
    std::vector<std::uint64_t> unread_;  // of words_, not read yet; atomic: looked at by every device store
    std::unordered_map<std::uint64_t, std::span<const std::uint8_t>> by_vcpu_;
    std::unordered_map<std::uint64_t, std::vector<std::uint8_t>> by_device_;
    std::uint64_t copied_ = 0;
};

}  // namespace proa::remus
