#include "remus/checkpoint_stats.hpp"

#include <algorithm>
#include <vector>

namespace proa::remus {
namespace {

using Clock = std::chrono::steady_clock;

double ms(Clock::duration d) {
    return std::chrono::duration<double, std::milli>(d).count();
}

double percentile(std::vector<double> v, double p) {
    if (v.empty()) return 0;
    std::sort(v.begin(), v.end());
    return v[std::min(v.size() - 1, static_cast<std::size_t>(p * static_cast<double>(v.size())))];
}

}  // namespace

void CheckpointStats::add(const CheckpointSample& s) {
    std::lock_guard lock(mutex_);
    last_.push_back(s);
    if (last_.size() > kRemembered) last_.pop_front();
}

void CheckpointStats::event(const std::string& what) {
    std::lock_guard lock(mutex_);
    events_.emplace_back(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start_), what);
    if (events_.size() > kEvents) events_.pop_front();
}

void CheckpointStats::into(nlohmann::json& j) const {
    std::lock_guard lock(mutex_);
    std::vector<double> pauses;
    for (const auto& s : last_) pauses.push_back(ms(s.resumed_at - s.paused_at));
    const CheckpointSample last = last_.empty() ? CheckpointSample{} : last_.back();
    // Rates are the last few seconds': what was remembered may be from a busier or an idler time.
    const auto recent = std::find_if(last_.begin(), last_.end(), [&](const CheckpointSample& s) {
        return last.paused_at - s.paused_at < std::chrono::seconds(5);
    });
    const auto n = static_cast<double>(last_.end() - recent);
    const double span = n > 1 ? ms(last.paused_at - recent->paused_at) / 1e3 : 0;
    std::uint64_t bytes = 0;  // of the checkpoints that began within the span
    for (auto s = recent; s != last_.end() && s + 1 != last_.end(); ++s) bytes += s->wire_bytes;
    j["epoch"] = last.epoch;
    j["checkpoints_per_s"] = span > 0 ? (n - 1) / span : 0.0;
    j["interval_ms"] = n > 1 ? 1e3 * span / (n - 1) : 0.0;
    j["pause_ms_p50"] = percentile(pauses, 0.5);
    j["pause_ms_p99"] = percentile(pauses, 0.99);
    j["pause_ms_last"] = pauses.empty() ? 0.0 : pauses.back();
    j["ack_ms_last"] = ms(last.acknowledged_at - last.paused_at);
    j["bytes_per_s"] = span > 0 ? static_cast<double>(bytes) / span : 0.0;
    // How old the backup's copy is now.
    j["lag_ms"] = last_.empty() ? 0.0 : ms(Clock::now() - last.paused_at);
    j["dirty_pages_last"] = last.dirty_pages;
    j["copied_pages_last"] = last.copied_pages;
    auto events = nlohmann::json::array();
    for (const auto& [at, what] : events_) events.push_back({{"at_ms", at.count()}, {"what", what}});
    j["events"] = std::move(events);
}

}  // namespace proa::remus
