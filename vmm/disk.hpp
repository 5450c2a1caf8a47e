// What replication sees of a guest's disk: its bytes, and the writes that come while it looks.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "vmm/error.hpp"

namespace proa::vmm {

// Called on the disk's worker thread, after the local disk has taken the write and before the guest is told; in the order
// in which the disk took them. Each call says what the disk holds there from then on, also after a write that failed half way.
class DiskObserver {
  public:
    virtual ~DiskObserver() = default;
    virtual void wrote(std::uint64_t offset, std::span<const std::uint8_t> bytes) = 0;
    virtual void zeroed(std::uint64_t offset, std::uint64_t length) = 0;  // WRITE_ZEROES

    // Back-pressure: the disk begins no request while there is no room, and is told through `room` (any thread) when there is
    // again. It doesn't wait inside of wrote(): a pause must not wait for an observer that waits for the pause. Asked with the
    // disk's lock held: must not wait for anything.
    virtual bool has_room() const { return true; }
    virtual void on_room(std::function<void()> room) { static_cast<void>(room); }
};

class Disk {
  public:
    virtual ~Disk() = default;
    virtual std::string name() const = 0;         // as Device::name(): "virtio0:block"
    virtual const std::string& path() const = 0;  // on this host
    virtual std::uint64_t size() const = 0;       // bytes, a multiple of 512
    virtual bool read_only() const = 0;
    virtual Result<void> read(std::uint64_t offset, std::span<std::uint8_t> to) const = 0;  // any thread
    // The guest's thread. Waits for the request that runs: every later write is told to `o`, and the observer before it isn't
    // called any more. Null: nobody looks. Not owned. A disk that is observed ignores DISCARD: it would read as anything.
    virtual void observe(DiskObserver* o) = 0;
};

}  // namespace proa::vmm
