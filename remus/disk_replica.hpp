// A disk's replica at the backup: changes only by whole epochs, whatever crashes. An epoch's writes go to a journal beside the
// replica first, are made durable and marked complete, then applied; a journal found complete at open() is applied again
// (writes are idempotent), one found incomplete is dropped.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "remus/records.hpp"

namespace proa::remus {

inline constexpr std::uint32_t kHashBlock = 64 * 1024;

enum class ReplicaState : std::uint8_t {
    Stale,  // a sync was begun and not finished, or nothing is known about it: only good as a base for a sync
    Consistent,  // holds exactly the state of epoch `epoch` of term `term`
};

class DiskReplica {
  public:
    // `path`: a file or block device of exactly `size` bytes (a regular file that is missing is made). `state_directory` holds
    // journal and state, named after `identity` (guest and disk). Repairs what a crash has left. One user at a time (locked).
    static vmm::Result<std::unique_ptr<DiskReplica>> open(const std::string& path, std::uint64_t size,
                                                          const std::string& state_directory,
                                                          const std::string& identity);
    ~DiskReplica();
    ReplicaState state() const;
    std::uint64_t term() const;
    std::uint64_t epoch() const;

    // XXH3-128 of block `first` and the `count - 1` after it (the last block may be short), 16 bytes each.
    vmm::Result<std::vector<std::uint8_t>> hashes(std::uint64_t first, std::uint64_t count) const;

    // A sync begins: Stale, durably, until the first apply().
    vmm::Result<void> begin_sync();
    vmm::Result<void> sync_write(const DiskWritesRecord& w);  // only between begin_sync() and the first apply()
    // One epoch, whole. Epochs of a term ascend; a lower term than the last one's is refused (an old primary's write).
    vmm::Result<void> apply(std::uint64_t term, std::uint64_t epoch,
                            const std::vector<DiskWritesRecord>& writes);

  private:
    struct Impl;
    explicit DiskReplica(std::unique_ptr<Impl> i);
    std::unique_ptr<Impl> impl_;
};

}  // namespace proa::remus
