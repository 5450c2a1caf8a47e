#include "remus/lease_keeper.hpp"

#include <pthread.h>
#include <sched.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace proa::remus {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr milliseconds kRetry{100};  // after a renewal that was not answered

// A host that is busy must not lose its guest because the renewal waits for a CPU. Low among the real-time priorities: the
// thread runs for microseconds, and what it waits for (the network) the kernel does in its own.
void ask_for_real_time(std::thread& t) {
    sched_param p{};
    p.sched_priority = sched_get_priority_min(SCHED_RR) + 1;
    if (const int e = pthread_setschedparam(t.native_handle(), SCHED_RR, &p); e != 0)
        spdlog::info(
            "lease: no real-time priority for renewals ({}); on a host under full load they may be late",
            std::strerror(e));
}

}  // namespace

std::uint64_t fence_for(std::uint64_t sent, std::uint64_t counter_hz, const LeaseTiming& t) {
    const auto ms = static_cast<std::uint64_t>(std::max<std::int64_t>(0, (t.ttl - t.margin).count()));
    // In two parts, so that no product of a sane frequency overflows. What lies beyond the counter's range is its end.
    std::uint64_t whole = 0, part = 0, fence = 0;
    if (__builtin_mul_overflow(ms / 1000, counter_hz, &whole) ||
        __builtin_mul_overflow(ms % 1000, counter_hz, &part) ||
        __builtin_add_overflow(whole, part / 1000, &whole) || __builtin_add_overflow(sent, whole, &fence))
        return std::numeric_limits<std::uint64_t>::max();
    return std::max<std::uint64_t>(fence, 1);
}

milliseconds attempt_timeout(const LeaseTiming& t) {
    return std::max(milliseconds(1), (t.ttl - t.margin - t.renew_every) / 3);
}

milliseconds late_after(const LeaseTiming& t) {
    return std::max(milliseconds(0), t.ttl - t.margin) * 3 / 4;
}

LeaseKeeper::LeaseKeeper(Witness& witness, Held held, std::uint64_t sent, LeaseTiming timing, Hooks hooks)
    : witness_(witness),
      held_(std::move(held)),
      timing_(timing),
      hooks_(std::move(hooks)),
      last_sent_(sent),
      thread_([this] { run(); }) {
    ask_for_real_time(thread_);
}

LeaseKeeper::~LeaseKeeper() {
    stop();
    thread_.join();
}

void LeaseKeeper::arm() {
    std::lock_guard lock(mutex_);
    armed_ = true;
    hooks_.fence(fence_for(last_sent_, hooks_.hz, timing_));
}

void LeaseKeeper::disarm() {
    std::lock_guard lock(mutex_);
    armed_ = false;
    hooks_.fence(0);  // under the lock: no renewal can set it again behind this
}

void LeaseKeeper::stop() {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
}

milliseconds LeaseKeeper::since_renewal() const {
    std::lock_guard lock(mutex_);
    return elapsed();
}

milliseconds LeaseKeeper::elapsed() const {
    const std::uint64_t now = hooks_.now();
    if (hooks_.hz == 0 || now <= last_sent_) return {};
    const std::uint64_t ticks = now - last_sent_;
    return milliseconds(ticks / hooks_.hz * 1000 + ticks % hooks_.hz * 1000 / hooks_.hz);
}

void LeaseKeeper::run() {
    std::unique_lock lock(mutex_);
    auto next = Clock::now();  // the claim may be old already: the first renewal is due at once
    bool answered = true, late = false;
    for (;;) {
        wake_.wait_until(lock, next, [this] { return stopping_; });
        if (stopping_) return;
        const auto begun = Clock::now();
        lock.unlock();
        const std::uint64_t sent = hooks_.now();  // before the request: the lease's new time begins no earlier
        const auto answer = witness_.renew(held_);
        lock.lock();
        if (stopping_) return;
        if (!answer) {  // no answer: it may have been renewed, but the fence counts on what is known
            if (std::exchange(answered, false))
                spdlog::warn("lease of guest {} was not renewed: {}; trying again", held_.guest,
                             answer.error().what);
            if (armed_ && !late && elapsed() >= late_after(timing_)) {
                late = true;
                lock.unlock();
                hooks_.late();
                lock.lock();
            }
            next = Clock::now() + std::min(kRetry, timing_.renew_every);
            continue;
        }
        if (*answer == Witness::Answer::Lost) break;
        if (!std::exchange(answered, true)) spdlog::info("lease of guest {} is renewed again", held_.guest);
        last_sent_ = sent;
        late = false;
        if (armed_) hooks_.fence(fence_for(last_sent_, hooks_.hz, timing_));
        next = begun + timing_.renew_every;
    }
    stopping_ = true;
    lock.unlock();  // the hook may ask the keeper
    hooks_.lost();
}

}  // namespace proa::remus
