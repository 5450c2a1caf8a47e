// What replication sees of a guest's disk: its bytes, and the writes that come while it looks.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "vmm/error.hpp"

namespace proa::vmm {

// Called on the disk's worker thread, after the local disk has taken the write and before the guest is told; in the order
// in which the disk took them.
class DiskObserver {
  public:
    virtual ~DiskObserver() = default;
    virtual void wrote(std::uint64_t offset, std::span<const std::uint8_t> bytes) = 0;
    virtual void zeroed(std::uint64_t offset,
                        std::uint64_t length) = 0;  // WRITE_ZEROES; DISCARD: reads as anything
};

class Disk {
  public:
    virtual ~Disk() = default;
    virtual std::string name() const = 0;         // as Device::name(): "virtio0:block"
    virtual const std::string& path() const = 0;  // on this host
    virtual std::uint64_t size() const = 0;       // bytes, a multiple of 512
    virtual bool read_only() const = 0;
    virtual Result<void> read(std::uint64_t offset, std::span<std::uint8_t> to) const = 0;  // any thread
    // The guest's thread, while the disk is quiet or not yet in use. Null: nobody looks any more. Not owned.
    virtual void observe(DiskObserver* o) = 0;
};

}  // namespace proa::vmm
