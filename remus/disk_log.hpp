// The primary's record of what a disk was told since the last checkpoint: writes pass to the local disk at once, their copies
// wait here until the epoch ends and travel with its checkpoint.
#pragma once
#include <condition_variable>
#include <mutex>
#include <vector>

#include "remus/records.hpp"
#include "vmm/disk.hpp"

namespace proa::remus {

class DiskLog final : public vmm::DiskObserver {
  public:
    // `disk`: index in the stream's Hello. Over `most_bytes` the disk's worker waits for the next take(): back-pressure.
    DiskLog(std::uint32_t disk, std::uint64_t most_bytes);
    void wrote(std::uint64_t offset, std::span<const std::uint8_t> bytes) override;
    void zeroed(std::uint64_t offset, std::uint64_t length) override;
    // At a checkpoint's pause (the disk is quiet): what was written since the last one, in order, as records of a size that
    // fits a frame. A sector written twice may travel once.
    std::vector<DiskWritesRecord> take();
    std::uint64_t bytes() const;
    void close();  // nobody takes any more: waiting writers go on, what comes is forgotten

  private:
    const std::uint32_t disk_;
    const std::uint64_t most_bytes_;
    mutable std::mutex mutex_;
    std::condition_variable taken_;
    std::vector<DiskWritesRecord> records_;
    std::uint64_t bytes_ = 0;
    bool closed_ = false;
};

}  // namespace proa::remus
