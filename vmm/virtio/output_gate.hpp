// Where a protected guest's frames wait: a NetPort before the real one that keeps what is sent, per epoch and in order, until
// the checkpoint that ends the epoch is acknowledged. Not guest state: a failover forgets what is held, on purpose, for nobody
// has seen it (the guest's peers, or the guest itself, send again). What comes in isn't held, and the console isn't either.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "vmm/output.hpp"
#include "vmm/virtio/net.hpp"

namespace proa::vmm {

class OutputGate final : public NetPort {
  public:
    explicit OutputGate(std::unique_ptr<NetPort> port) : port_(std::move(port)) {}

    // The guest's side. There is always room for the frame that comes after takes_output() has said yes; one sent without
    // asking is dropped if it doesn't fit.
    void send(std::span<const std::uint8_t> frame) override;
    bool takes_output() override;
    void on_room(std::function<void()> f) override { room_ = std::move(f); }
    std::size_t receive(std::span<std::uint8_t> frame) override { return port_->receive(frame); }
    void want_input(bool on) override { port_->want_input(on); }
    std::uint64_t offloads() const override { return port_->offloads(); }
    void set_offloads(std::uint64_t negotiated) override { port_->set_offloads(negotiated); }

    // As in vmm::Output. `room`: bytes to hold at most, kLeastRoom at least.
    void hold(std::uint64_t epoch, std::size_t room);
    void seal(std::uint64_t epoch);
    void release(std::uint64_t epoch);
    void open();
    void shut();
    const OutputHeld& held() const { return held_; }

    static constexpr std::size_t kLargestFrame = kVirtioNetHeader + kLargestPacket;
    static constexpr std::size_t kLeastRoom = 4 * kLargestFrame;

  private:
    enum class State : std::uint8_t { Open, Holding, Shut };
    struct Epoch {
        std::uint64_t number = 0, frames = 0;
    };
    bool fits(std::size_t frame) const;
    std::size_t place(std::size_t entry) const;
    void leave(const Epoch& e);
    void forget();
    void made_room();

    std::unique_ptr<NetPort> port_;
    std::function<void()> room_;
    State state_ = State::Open;
    bool stalled_ = false;
    OutputHeld held_;
    std::deque<Epoch> epochs_;  // oldest first; the last one is filled
    // A ring of entries, each a length and its frame; an entry is never split: kSkip says that the next one is at the ring's
    // start. Allocated, not touched, when holding begins.
    std::unique_ptr<std::uint8_t[]> ring_;
    std::size_t size_ = 0, head_ = 0, tail_ = 0, used_ = 0;  // used_: bytes from tail_ (oldest) to head_
};

// All of a guest's gates as one.
class OutputGates final : public Output {
  public:
    static constexpr std::size_t kDefaultRoom = 8u << 20;
    // `room`: bytes that may be held for the guest, shared out evenly.
    explicit OutputGates(std::size_t room = kDefaultRoom) : room_(room) {}
    // Before hold(). The gate belongs to the caller and lives as long as this.
    std::unique_ptr<OutputGate> gate(std::unique_ptr<NetPort> port);

    void hold(std::uint64_t epoch) override;
    void seal(std::uint64_t epoch) override;
    void release(std::uint64_t epoch) override;
    void open() override;
    void shut() override;
    OutputHeld held() const override;

  private:
    std::size_t room_;
    std::vector<OutputGate*> gates_;
};

}  // namespace proa::vmm
