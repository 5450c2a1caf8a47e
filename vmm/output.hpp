// What leaves a guest, and can be held until it may: the network side of output commit (Remus, NSDI'08, 3.4). Frames are
// held per epoch, in order, and leave when the checkpoint that ends their epoch is acknowledged. All on the guest's thread.
//
// Bounded: when there is no room the guest's transmit queue isn't served until something is released, and its stack waits.
// Nothing is dropped, nothing overtakes. Only the network is held: what the console prints is for a human, who may read a line
// twice or miss one after a failover.
#pragma once
#include <cstdint>

namespace proa::vmm {

struct OutputHeld {
    std::uint64_t frames = 0, bytes = 0;
    std::uint64_t stalls = 0;  // times the guest was told to wait: the buffer was full
};

class Output {
  public:
    virtual ~Output() = default;
    // From now on frames stay here, as epoch `epoch`'s.
    virtual void hold(std::uint64_t epoch) = 0;
    // At a checkpoint's pause: what comes from here on belongs to `epoch`, the one after.
    virtual void seal(std::uint64_t epoch) = 0;
    // Checkpoint `epoch` is safe: its frames, and those of epochs before it, leave.
    virtual void release(std::uint64_t epoch) = 0;
    // Nothing is held any more: everything leaves, now and from now on.
    virtual void open() = 0;
    // This guest must not be heard of again: what is held is dropped, and so is all that comes. For good.
    virtual void shut() = 0;
    virtual OutputHeld held() const = 0;
};

}  // namespace proa::vmm
