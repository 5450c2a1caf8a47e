// A disk's replica at the backup: changes only by whole epochs, whatever crashes. An epoch's writes go to a journal beside the
// replica first and are made durable there, then applied; epochs that are whole in the journal at open() are applied again
// (writes are idempotent), one that isn't counts as never come.
//
// What is synced before what (any other order may happen, and must not matter):
//     apply            journal's entry -> sync -> writes into the replica
//     now and then     replica's sync -> state (epoch, the journal's next number) -> the journal starts anew
//     begin_sync       state: Stale -> writes into the replica
//     first apply      replica's sync -> state: Consistent
// The state file is replaced as a whole: new file, sync, rename, sync of the directory. So an epoch costs one sync, and one
// without writes costs none.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "remus/disk_files.hpp"
#include "remus/disk_records.hpp"

namespace proa::remus {

enum class ReplicaState : std::uint8_t {
    Stale,  // a sync was begun and not finished, or nothing is known about it: only good as a base for a sync
    Consistent,  // holds exactly the state of epoch `epoch` of term `term`
};

struct ReplicaEnvironment {
    DiskFiles& files = DiskFiles::system();
    std::uint64_t journal_bytes =
        64u << 20;  // from where on the journal starts anew, as it does after 1024 epochs
};

class DiskReplica {
  public:
    // `path`: a file or block device of exactly `size` bytes (a regular file that is missing or empty is made). `state_directory`
    // holds journal and state, named after `identity` (guest and disk). Repairs what a crash has left. One user at a time
    // (locked).
    static vmm::Result<std::unique_ptr<DiskReplica>> open(const std::string& path, std::uint64_t size,
                                                          const std::string& state_directory,
                                                          const std::string& identity,
                                                          const ReplicaEnvironment& environment = {});
    ~DiskReplica();
    ReplicaState state() const;
    std::uint64_t term() const;
    // The last one applied. After open(): the last one that wrote something; the disk didn't change in those after it, so it
    // holds their state too, but nobody has written down how many there were.
    std::uint64_t epoch() const;

    // XXH3-128 of block `first` and the `count - 1` after it (the last block may be short), 16 bytes each.
    vmm::Result<std::vector<std::uint8_t>> hashes(std::uint64_t first, std::uint64_t count) const;
    std::uint64_t blocks() const;

    // A sync begins: Stale, durably, until the first apply().
    vmm::Result<void> begin_sync();
    vmm::Result<void> sync_write(const DiskWritesRecord& w);  // only between begin_sync() and the first apply()
    // One epoch, whole. Epochs of a term ascend; a lower term than the last one's is refused (an old primary's write).
    // After an error of the storage (and not of the arguments) nothing is accepted any more: open() again.
    vmm::Result<void> apply(std::uint64_t term, std::uint64_t epoch,
                            const std::vector<DiskWritesRecord>& writes);
    // Everything applied is in the replica itself, durably. To be called while a failover waits for the witness: it makes
    // hand_over() quick.
    vmm::Result<void> flush();
    // The guest is about to run on it: durable as it is, and Stale, for nobody writes down what a guest does to it.
    vmm::Result<void> hand_over();

  private:
    struct Impl;
    explicit DiskReplica(std::unique_ptr<Impl> i);
    std::unique_ptr<Impl> impl_;
};

}  // namespace proa::remus
