// Copy-on-write checkpoints of a running machine, and the fence that stops one whose right to run has run out. A seam
// beside Machine: not everything that can run vCPUs can do this.
//
// One checkpoint: pause the vCPUs, hold() what they wrote since the last one, save the state, resume(). From then on the
// first write to a held page, by a vCPU or (GuestMemory::before_write) by a device model, is preceded by a copy of it; who
// reads a held page live and then finds no copy of it in take_copies() has read the page as it was at the pause.
#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "dirtylog/bitmap.hpp"
#include "hypervisor/abi/control.hpp"
#include "vmm/error.hpp"

namespace proa::vmm {

class Checkpointer {
  public:
    virtual ~Checkpointer() = default;

    // The guest's thread, running or paused. Turns the dirty log on and gives proa-hv the pool for copies. What was written
    // before is the caller's to know: it reads that while the guest runs (Machine::harvest() has what it writes meanwhile), or
    // tells it to the first hold().
    virtual Result<void> start(abi::DirtyLogMode mode) = 0;
    // Log off, pool taken back, vCPUs that wait for a free copy go on, fence off.
    virtual Result<void> stop() = 0;
    virtual bool started() const = 0;  // the guest's thread; the dirty log is its own from start() to stop()

    // Paused only. In: pages that device models wrote. Out: those and the pages that vCPUs wrote since the last hold() or
    // harvest(); all of them are held now. The number of pages held.
    virtual Result<std::uint64_t> hold(dirtylog::Bitmap& pages) = 0;
    // Ends a pause that the guest's clock must not notice: its counter has gone on meanwhile.
    virtual Result<void> resume() = 0;
    // Copies made since the last call, in the order they were made; a page has at most one a checkpoint. The bytes stay
    // valid until release(). One thread at a time, any thread.
    using Copied = std::function<void(std::uint64_t page, std::span<const std::uint8_t> bytes)>;
    virtual void take_copies(const Copied& f) = 0;
    // The guest's thread. Pages [first, first + pages) have been read: no copies of them any more. Multiples of 512.
    virtual Result<void> release(std::uint64_t first, std::uint64_t pages) = 0;
    // The guest's thread. The checkpoint has been sent: nothing is held, all copies are free again.
    virtual Result<void> release_all() = 0;

    // Any thread, never blocks. At this value of the host's counter (CNTVCT_EL0 of the control domain) the guest stops
    // by itself, whatever has become of this process, and MachineEvents::fenced() follows. 0: no fence.
    virtual void fence_at(std::uint64_t counter) = 0;
    virtual std::uint64_t counter() const = 0;     // now
    virtual std::uint64_t counter_hz() const = 0;  // ticks a second
};

}  // namespace proa::vmm
