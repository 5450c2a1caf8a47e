// The file system as a disk's replica needs it, so that a test can be one that loses what wasn't synced. What counts as durable
// is what POSIX says, and no more: a file's bytes after its sync(), a name after its directory's.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace proa::remus {

class DiskFile {
  public:
    virtual ~DiskFile() = default;
    virtual vmm::Result<std::uint64_t> size() const = 0;
    // Tells this file from another that was put under its name; 0: can't (a block device).
    virtual std::uint64_t identity() const = 0;
    virtual vmm::Result<void> read(std::uint64_t at, std::span<std::uint8_t> to) const = 0;  // all of it
    virtual vmm::Result<void> write(std::uint64_t at, std::span<const std::uint8_t> from) = 0;
    // Reads as zeroes afterwards, and needs no storage where it can be so.
    virtual vmm::Result<void> zero(std::uint64_t at, std::uint64_t length) = 0;
    virtual vmm::Result<void> resize(std::uint64_t bytes) = 0;
    virtual vmm::Result<void> sync() = 0;  // bytes and size
};

class DiskFiles {
  public:
    virtual ~DiskFiles() = default;
    // Nothing: there is no such file. Open files are locked: a second open() fails.
    virtual vmm::Result<std::unique_ptr<DiskFile>> open(const std::string& path) = 0;
    virtual vmm::Result<std::unique_ptr<DiskFile>> create(const std::string& path) = 0;  // empty, new or not
    virtual vmm::Result<void> rename(const std::string& from, const std::string& to) = 0;
    virtual vmm::Result<void> sync_directory_of(const std::string& path) = 0;

    static DiskFiles& system();  // the real one
};

}  // namespace proa::remus
