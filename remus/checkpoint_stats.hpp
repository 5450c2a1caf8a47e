// What checkpoints cost, as `proa protect --status` tells it: sums, and percentiles over the last ones. Thread-safe.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

namespace proa::remus {

struct CheckpointSample {
    std::chrono::steady_clock::time_point paused_at, resumed_at, acknowledged_at;
    std::uint64_t epoch = 0, dirty_pages = 0, copied_pages = 0, wire_bytes = 0;
};

class CheckpointStats {
  public:
    static constexpr std::size_t kRemembered = 512;
    void add(const CheckpointSample& s);
    // Something a human wants to know when: kept with the time since start, the last kEvents of them.
    static constexpr std::size_t kEvents = 32;
    void event(const std::string& what);
    void into(nlohmann::json& j) const;  // the fields of protect-status that are about cost, and "events"

  private:
    mutable std::mutex mutex_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::deque<CheckpointSample> last_;
    std::deque<std::pair<std::chrono::milliseconds, std::string>> events_;
};

}  // namespace proa::remus
