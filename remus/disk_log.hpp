// The primary's record of what a disk was told since the last checkpoint: writes pass to the local disk at once, their copies
// wait here until the epoch ends and travel with its checkpoint.
#pragma once
#include <atomic>
#include <mutex>
#include <vector>

#include "remus/disk_records.hpp"
#include "vmm/disk.hpp"

namespace proa::remus {

class DiskLog final : public vmm::DiskObserver {
  public:
    // `disk`: index in the stream's Hello. From `most_bytes` on the disk begins no request before the next take():
    // back-pressure. What runs is still taken, so a log may hold one request more than that.
    DiskLog(std::uint32_t disk, std::uint64_t most_bytes) : most_bytes_(most_bytes), records_(disk) {}
    void wrote(std::uint64_t offset, std::span<const std::uint8_t> bytes) override;
    void zeroed(std::uint64_t offset, std::uint64_t length) override;
    bool has_room() const override { return bytes_ < most_bytes_; }
    void on_room(std::function<void()> room) override;

    // What was written since the last one, in order, as records of a size that fits a frame. At a checkpoint's pause, when the
    // disk is quiet: exactly the epoch's writes. During a sync, at any time (disk_sync.hpp). Any thread.
    std::vector<DiskWritesRecord> take();
    std::uint64_t bytes() const { return bytes_; }
    void close();  // nobody takes any more: there is always room, what comes is forgotten

  private:
    // The disk's own lock is taken inside of this one (room_), never around it: has_room() takes none.
    mutable std::mutex mutex_;
    const std::uint64_t most_bytes_;
    DiskRecords records_;
    std::atomic<std::uint64_t> bytes_ = 0;
    std::function<void()> room_;
    bool closed_ = false;
};

}  // namespace proa::remus
