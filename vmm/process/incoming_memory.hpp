// The memory of a guest that is on its way here. Large memory takes seconds to be made present (each page is zeroed first);
// nobody waits for it: the guest's pages come in meanwhile, and only who is about to run the guest needs all of it.
#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "vmm/error.hpp"

namespace proa::vmm {

class IncomingMemory {
  public:
    // `populate` makes one of `chunks` present, on a thread of this object's; `present`, on `io`'s, when all are: `io` doesn't
    // run any more when what they use goes.
    IncomingMemory(boost::asio::io_context& io, std::uint64_t chunks,
                   std::function<Result<void>(std::uint64_t)> populate, std::function<Result<void>()> present)
        : io_(io), chunks_(chunks), populate_(std::move(populate)), present_(std::move(present)) {}
    IncomingMemory(const IncomingMemory&) = delete;
    IncomingMemory& operator=(const IncomingMemory&) = delete;
    // Not before now, but from now on; once. Any thread.
    void begin();
    // True as soon as both have ended, false if they haven't within this time, or why they failed; begins it. Any thread but
    // `io`'s.
    Result<bool> within(std::chrono::milliseconds time);
    bool ready() const;  // both have ended, and well
    // Not worth going on: whoever waits gets an error, soon.
    void stop() { stopped_ = true; }
    ~IncomingMemory() { stop(); }

  private:
    void run();
    boost::asio::io_context& io_;
    std::uint64_t chunks_;
    std::function<Result<void>(std::uint64_t)> populate_;
    std::function<Result<void>()> present_;
    std::atomic<bool> stopped_ = false;
    std::promise<Result<void>> end_;
    std::shared_future<Result<void>> ended_ = end_.get_future().share();
    std::once_flag begun_;
    std::jthread thread_;
};

}  // namespace proa::vmm
