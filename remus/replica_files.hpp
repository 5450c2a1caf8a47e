// Where a standby's disks are kept on this host: there, of the right size, and nobody else's.
#pragma once
#include <string>
#include <vector>

#include "remus/standby_request.hpp"

namespace proa::remus {

// Files that were made for a standby that may still not come to be: removed again, unless it did.
class NewFiles {
  public:
    NewFiles() = default;
    NewFiles(const NewFiles&) = delete;
    NewFiles& operator=(const NewFiles&) = delete;
    ~NewFiles();
    void made(std::string path) { paths_.push_back(std::move(path)); }
    void keep() { paths_.clear(); }

  private:
    std::vector<std::string> paths_;
};

struct DiskInUse {
    std::string guest, path;
};

// Every disk exists with its size, as a regular file or a block device that nothing on this host holds; one that is missing
// is made, sparse, if its directory is there. `in_use`: disks of guests of this host.
vmm::Result<void> prepare_replicas(const std::vector<ReplicatedDisk>& disks,
                                   const std::vector<DiskInUse>& in_use, NewFiles& made);

}  // namespace proa::remus
