#include "vmm/virtio/output_gate.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace proa::vmm {
namespace {

using Length = std::uint32_t;
constexpr Length kSkip = std::numeric_limits<Length>::max();
constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

// Entries and the ring are multiples of a length's size, so there is always room for a kSkip before the ring's end.
constexpr std::size_t entry_bytes(std::size_t frame) {
    return sizeof(Length) + (frame + sizeof(Length) - 1) / sizeof(Length) * sizeof(Length);
}

}  // namespace

// Where an entry of that size goes, if anywhere: at head_, or at the ring's start if the end is too near.
std::size_t OutputGate::place(std::size_t entry) const {
    const bool wrapped = used_ != 0 && head_ <= tail_;
    if (entry <= (wrapped ? tail_ : size_) - head_) return head_;
    return !wrapped && entry <= tail_ ? 0 : kNowhere;
}

bool OutputGate::fits(std::size_t frame) const {
    return place(entry_bytes(frame)) != kNowhere;
}

bool OutputGate::takes_output() {
    if (state_ != State::Holding || fits(kLargestFrame)) return true;
    if (!stalled_) ++held_.stalls;
    stalled_ = true;
    return false;
}

void OutputGate::send(std::span<const std::uint8_t> frame) {
    if (state_ == State::Open) return port_->send(frame);
    if (state_ == State::Shut || !fits(frame.size())) return;
    const std::size_t entry = entry_bytes(frame.size()), at = place(entry);
    if (at != head_) {
        if (head_ != size_) std::memcpy(ring_.get() + head_, &kSkip, sizeof(kSkip));
        used_ += size_ - head_;
    }
    const auto length = static_cast<Length>(frame.size());
    std::memcpy(ring_.get() + at, &length, sizeof(length));
    std::memcpy(ring_.get() + at + sizeof(length), frame.data(), frame.size());
    head_ = at + entry;
    used_ += entry;
    ++epochs_.back().frames;
    ++held_.frames;
    held_.bytes += frame.size();
}

void OutputGate::leave(const Epoch& e) {
    for (std::uint64_t n = 0; n < e.frames; ++n) {
        Length length = kSkip;
        if (tail_ != size_) std::memcpy(&length, ring_.get() + tail_, sizeof(length));
        if (length == kSkip) {
            used_ -= size_ - tail_;
            tail_ = 0;
            std::memcpy(&length, ring_.get(), sizeof(length));
        }
        port_->send({ring_.get() + tail_ + sizeof(length), length});
        tail_ += entry_bytes(length);
        used_ -= entry_bytes(length);
        --held_.frames;
        held_.bytes -= length;
    }
    if (used_ == 0) head_ = tail_ = 0;  // the ring's start is the part that is in the cache
}

void OutputGate::hold(std::uint64_t epoch, std::size_t room) {
    if (state_ == State::Holding) return seal(epoch);
    if (state_ == State::Shut) return;
    size_ = std::max(room, kLeastRoom) / sizeof(Length) * sizeof(Length);
    ring_.reset(new std::uint8_t[size_]);
    state_ = State::Holding;
    epochs_.push_back({epoch});
}

void OutputGate::seal(std::uint64_t epoch) {
    if (state_ != State::Holding) return;
    if (epochs_.back().frames == 0) epochs_.pop_back();
    epochs_.push_back({epoch});
}

void OutputGate::release(std::uint64_t epoch) {
    if (state_ != State::Holding) return;
    while (epochs_.size() > 1 && epochs_.front().number <= epoch) {
        leave(epochs_.front());
        epochs_.pop_front();
    }
    if (Epoch& current = epochs_.front(); current.number <= epoch) {  // not sealed: the guest stands still
        leave(current);
        current.frames = 0;
    }
    made_room();
}

void OutputGate::open() {
    if (state_ != State::Holding) return;
    for (const Epoch& e : epochs_) leave(e);
    state_ = State::Open;
    forget();
}

void OutputGate::shut() {
    state_ = State::Shut;
    forget();
}

void OutputGate::forget() {
    epochs_.clear();
    ring_.reset();
    size_ = head_ = tail_ = used_ = 0;
    held_.frames = held_.bytes = 0;
    made_room();
}

void OutputGate::made_room() {
    if (!stalled_ || (state_ == State::Holding && !fits(kLargestFrame))) return;
    stalled_ = false;
    if (room_) room_();
}

std::unique_ptr<OutputGate> OutputGates::gate(std::unique_ptr<NetPort> port) {
    auto g = std::make_unique<OutputGate>(std::move(port));
    gates_.push_back(g.get());
    return g;
}

void OutputGates::hold(std::uint64_t epoch) {
    for (OutputGate* g : gates_) g->hold(epoch, room_ / gates_.size());
}
void OutputGates::seal(std::uint64_t epoch) {
    for (OutputGate* g : gates_) g->seal(epoch);
}
void OutputGates::release(std::uint64_t epoch) {
    for (OutputGate* g : gates_) g->release(epoch);
}
void OutputGates::open() {
    for (OutputGate* g : gates_) g->open();
}
void OutputGates::shut() {
    for (OutputGate* g : gates_) g->shut();
}

OutputHeld OutputGates::held() const {
    OutputHeld all;
    for (const OutputGate* g : gates_) {
        all.frames += g->held().frames;
        all.bytes += g->held().bytes;
        all.stalls += g->held().stalls;
    }
    return all;
}

}  // namespace proa::vmm
