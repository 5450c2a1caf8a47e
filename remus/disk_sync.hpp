// The primary's side of a sync: what has to be sent so that the backup's replica, known by its block hashes, becomes this disk.
//
// The guest runs and writes meanwhile. That is right because of one order. A DiskLog observes the disk since before the first
// block is read, and one thread does, again and again: compare() a piece and send what it yields, then take() the log and send
// that. So whatever the log says of a sector is sent after every copy of it that was read before the write, and the log's last
// part travels with checkpoint 1, taken at its pause. A sector that was written since observation began ends with its last
// write, in the log's order, whatever was read of it, torn or not; any other has held its bytes all the time.
// (Blocks of a piece must not be kept back until after a take() that follows their reading: they would undo its writes.)
#pragma once
#include <functional>

#include "remus/disk_records.hpp"
#include "vmm/disk.hpp"

namespace proa::remus {

class DiskSync {
  public:
    // `index` of the disk in the stream's Hello. `disk` isn't owned.
    DiskSync(const vmm::Disk& disk, std::uint32_t index) : disk_(disk), index_(index) {}

    // The next piece of the backup's hashes; pieces ascend without a gap, and the last one ends with the disk. `send` gets the
    // blocks that differ, in records; its error ends the piece. A piece that isn't what it should be is an error.
    using Send = std::function<vmm::Result<void>(DiskWritesRecord)>;
    vmm::Result<void> compare(const DiskHashesRecord& piece, const Send& send);
    bool complete() const { return complete_; }

    std::uint64_t blocks() const { return next_; }          // compared
    std::uint64_t differing() const { return differing_; }  // of them

  private:
    std::uint64_t all_blocks() const { return (disk_.size() + kHashBlock - 1) / kHashBlock; }
    vmm::Result<void> check(const DiskHashesRecord& piece) const;

    const vmm::Disk& disk_;
    const std::uint32_t index_;
    std::uint64_t next_ = 0, differing_ = 0;
    bool complete_ = false;
    std::vector<std::uint8_t> buffer_;
};

}  // namespace proa::remus
