#include "remus/heart.hpp"

namespace proa::remus {
namespace {

using Clock = FailureDetector::Clock;

}  // namespace

Heart::Heart(std::unique_ptr<transport::Channel> c, std::uint64_t term, DetectorPolicy policy,
             std::function<void(bool)> silent)
    : channel_(std::move(c)),
      term_(term),
      policy_(policy),
      silent_(std::move(silent)),
      detector_(policy, Clock::now()),
      beating_([this] { beat(); }),
      listening_([this] { listen(); }) {}

Heart::~Heart() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    channel_->cancel();
    beating_.join();
    listening_.join();
}

std::chrono::milliseconds Heart::silence() const {
    std::lock_guard lock(mutex_);
    return detector_.silence(Clock::now());
}

void Heart::beat() {
    bool said = false;
    std::unique_lock lock(mutex_);
    for (std::uint64_t count = 0; !stopping_; ++count) {
        const bool broken = broken_;
        lock.unlock();
        const bool sent =
            !broken && send(*channel_, Record::Beat, encode(BeatRecord{term_, count})).has_value();
        lock.lock();
        broken_ = broken_ || !sent;
        const bool silent = broken_ || detector_.suspects(Clock::now());
        if (silent != said && !stopping_) {
            said = silent;
            lock.unlock();
            silent_(silent);
            lock.lock();
        }
        wake_.wait_for(lock, policy_.every, [this] { return stopping_ || broken_; });
        if (broken_ && said) wake_.wait(lock, [this] { return stopping_; });
    }
}

void Heart::listen() {
    for (;;) {
        auto f = migrate::receive(*channel_, transport::Patience::Idle);
        const bool good = f && is(*f, Record::Beat) && [&] {
            const auto b = decode_beat(f->payload);
            return b && b->term == term_;
        }();
        std::lock_guard lock(mutex_);
        if (!good) {
            broken_ = true;
            wake_.notify_all();
            return;
        }
        detector_.beat(Clock::now());
    }
}

}  // namespace proa::remus
