// One side of the heartbeat channel: sends a beat every so often, hears the other's, and says when they have stopped coming and
// when they come again. The channel's failure counts as silence at once.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "remus/failure_detector.hpp"
#include "remus/records.hpp"

namespace proa::remus {

class Heart {
  public:
    // `silent(true)` when the other side is suspected, `silent(false)` when it beats again; from the heart's threads.
    Heart(std::unique_ptr<transport::Channel> c, std::uint64_t term, DetectorPolicy policy,
          std::function<void(bool)> silent);
    ~Heart();  // stops beating, waits for its threads: not from `silent`
    std::chrono::milliseconds silence() const;

  private:
    void beat();
    void listen();
    std::unique_ptr<transport::Channel> channel_;
    const std::uint64_t term_;
    const DetectorPolicy policy_;
    const std::function<void(bool)> silent_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    FailureDetector detector_;
    bool stopping_ = false, broken_ = false;
    std::thread beating_, listening_;
};

}  // namespace proa::remus
