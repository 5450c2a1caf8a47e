// The primary's hold on its key: renews the lease from a thread of its own (of real-time priority where allowed), moves the
// fence forward after each success, and says when the key is lost. The fence is always earlier than the moment at which the
// witness could give the key to somebody else: request sent + ttl - margin.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "remus/witness.hpp"
#include "vmm/checkpointer.hpp"

namespace proa::remus {

struct LeaseTiming {
    std::chrono::milliseconds ttl{3000};
    std::chrono::milliseconds renew_every{500};
    std::chrono::milliseconds margin{400};  // clock drift, and what it takes to stop
};
// Pure. Counter value at which the guest must have stopped, for a renewal that was sent at counter value `sent`.
// Never 0, which would mean no fence; a margin that leaves nothing of the ttl gives `sent`.
std::uint64_t fence_for(std::uint64_t sent, std::uint64_t counter_hz, const LeaseTiming& t);
// Pure. How long one call to the witness may take (make_witness) so that three renewals in a row can fail before the fence.
std::chrono::milliseconds attempt_timeout(const LeaseTiming& t);
// Pure. Since the last renewal: from here on the fence is near, and what can be done without the witness should begin.
std::chrono::milliseconds late_after(const LeaseTiming& t);

class LeaseKeeper {
  public:
    // `lost`: the witness has said Lost; from the keeper's thread, once, and no renewal follows. It may call stop(), but not
    // destroy the keeper. `fence`: gets counter values (Checkpointer::fence_at); from any thread, one call at a time; must not
    // call the keeper. `now`, `hz`: the same counter. `late`: armed, and no renewal for late_after(); as `lost`, once a silence.
    struct Hooks {
        std::function<void()> lost;
        std::function<void()> late;
        std::function<void(std::uint64_t)> fence;
        std::function<std::uint64_t()> now;
        std::uint64_t hz = 0;
    };
    // `sent`: counter value from before the claim that gave `held` was sent.
    LeaseKeeper(Witness& witness, Held held, std::uint64_t sent, LeaseTiming timing, Hooks hooks);
    ~LeaseKeeper();  // waits for a renewal that is on its way: as long as the witness's timeout
    LeaseKeeper(const LeaseKeeper&) = delete;
    LeaseKeeper& operator=(const LeaseKeeper&) = delete;
    void arm();     // from now on the fence is set, and moved by every renewal
    void disarm();  // fence off (0); renewals go on
    void stop();    // no renewal any more; the fence stays as it is. An answer that comes later changes nothing
    std::chrono::milliseconds since_renewal() const;

  private:
    void run();
    std::chrono::milliseconds elapsed() const;  // since_renewal, under the lock
    Witness& witness_;
    const Held held_;
    const LeaseTiming timing_;
    const Hooks hooks_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::uint64_t last_sent_;  // of the last renewal that succeeded
    bool armed_ = false, stopping_ = false;
    std::thread thread_;
};

}  // namespace proa::remus
