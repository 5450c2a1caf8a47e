// What proa-vm's machine holds beside CPUs: an MMIO device with state that moves. Single-threaded: all calls
// come from the guest's own strand.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace proa::vmm {

class Device {
  public:
    virtual ~Device() = default;
    virtual std::string name() const = 0;  // unique in the guest and stable across versions: "virtio0:block"
    virtual std::uint64_t read(std::uint64_t offset, unsigned size) = 0;
    virtual void write(std::uint64_t offset, unsigned size, std::uint64_t value) = 0;
    virtual void reset() = 0;

    // quiesce: finish or park requests in flight, so that memory and device state agree and nothing writes guest
    // memory until resume(). save() only while quiesced. load() refuses what it can't represent and changes
    // nothing then. resume() after load() re-examines the queues (a notify may have been lost with the source).
    // arrive() comes between the two, once this copy is the one that runs but before its vCPUs do: what waits for the
    // guest is put where it finds it first. Nobody outside hears of it: the start may still fail.
    virtual void quiesce() {}
    virtual void arrive() {}
    virtual void resume() {}
    // What came from outside while quiesced and the guest has not seen (frames at a tap), at most `most` pieces: taken
    // away, to follow a guest that has left. give_input() is the other end: as if it had come here; what doesn't fit is
    // dropped.
    virtual std::vector<std::vector<std::uint8_t>> take_input(std::size_t most) {
        return static_cast<void>(most), std::vector<std::vector<std::uint8_t>>{};
    }
    virtual void give_input(std::span<const std::uint8_t>) {}
    virtual std::vector<std::uint8_t> save() const = 0;
    virtual Result<void> load(std::span<const std::uint8_t> state) = 0;
};

}  // namespace proa::vmm
