// The journal beside a disk's replica: whole epochs, one after the other. An epoch is there when all of its bytes are (their hash
// is the mark that says so), and everything behind one that isn't whole counts as nothing.
//
// An entry, little endian, everything a multiple of 512:
//     header   512   JournalHeader, rest 0
//     table    n     writes of 24 bytes {offset, length, zero}, padded
//     data     n     of the writes that are not zero, in order
// The file is a log that starts anew now and then, under a new number: entries of another number are older and count as nothing,
// so nothing has to be erased.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "remus/disk_files.hpp"
#include "remus/records.hpp"

namespace proa::remus {

struct JournalHeader {
    static constexpr std::uint64_t kMagic = 0x6c6e'726a'616f'7270;  // "proajrnl"
    std::uint64_t magic = kMagic;
    std::uint32_t version = 1;
    std::uint32_t writes = 0;
    std::uint64_t log = 0;    // number of the log this entry belongs to
    std::uint64_t index = 0;  // its place there, from 0
    std::uint64_t term = 0, epoch = 0;
    std::uint64_t data = 0;      // bytes
    std::uint8_t hash[16] = {};  // XXH3-128, canonical, of table (padded) and data
    std::uint64_t check = 0;     // XXH3-64 of what is above
};
static_assert(sizeof(JournalHeader) == 80);

class DiskJournal {
  public:
    struct Epoch {
        std::uint64_t term = 0, epoch = 0;
    };
    DiskJournal(std::unique_ptr<DiskFile> file, std::uint64_t log) : file_(std::move(file)), log_(log) {}

    // Durable when it returns. The writes are what DiskReplica has checked.
    vmm::Result<void> append(Epoch e, const std::vector<DiskWritesRecord>& writes);
    // Writes every whole epoch of this log into `disk`, of `size` bytes. The last of them, or nothing if there is none.
    vmm::Result<std::optional<Epoch>> replay(DiskFile& disk, std::uint64_t size);
    // Under a new number. What is longer than `keep` bytes is given back.
    vmm::Result<void> restart(std::uint64_t log, std::uint64_t keep);

    std::uint64_t bytes() const { return end_; }
    std::uint64_t epochs() const { return index_; }
    static std::uint64_t bytes_for(const std::vector<DiskWritesRecord>& writes);

  private:
    struct Entry;
    vmm::Result<std::optional<Entry>> look(std::uint64_t at, std::uint64_t file_bytes) const;

    std::unique_ptr<DiskFile> file_;
    std::uint64_t log_, index_ = 0, end_ = 0;
};

// One epoch's, or a sync's, writes into the replica itself.
vmm::Result<void> write_into(DiskFile& disk, const DiskWritesRecord& r);

}  // namespace proa::remus
