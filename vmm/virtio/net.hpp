// virtio-net (virtio 1.2, 5.1) between the guest and a packet backend (a tap). The backend's frames carry the 12-byte
// virtio_net_hdr on both sides, so offloads pass through. What the guest sends goes through OutputGate, where Remus
// holds it until the checkpoint that covers it is acknowledged; while the gate is full it waits in the guest's queue.
#pragma once
#include <array>
#include <chrono>
#include <deque>
#include <functional>

#include "vmm/virtio/mmio.hpp"

namespace proa::vmm {

using MacAddress = std::array<std::uint8_t, 6>;
inline constexpr std::size_t kVirtioNetHeader = 12;  // virtio_net_hdr_v1 (5.1.6)
inline constexpr std::size_t kLargestPacket = 65550;

class NetPort {
  public:
    virtual ~NetPort() = default;
    virtual void send(std::span<const std::uint8_t> frame) = 0;      // virtio_net_hdr + packet
    virtual std::size_t receive(std::span<std::uint8_t> frame) = 0;  // 0: nothing there now
    virtual void want_input(bool on) = 0;                            // back-pressure: stop or go on polling
    virtual std::uint64_t offloads() const = 0;                      // feature bits it can honour
    virtual void set_offloads(std::uint64_t negotiated) = 0;
    // Back-pressure the other way. To be asked before each frame of the guest; once false, `room` is called when it would be
    // true again.
    virtual bool takes_output() { return true; }
    virtual void on_room(std::function<void()> room) { static_cast<void>(room); }
};

class NetBackend final : public VirtioBackend {
  public:
    // Does something on the guest's thread after a while; at once without it.
    using Later = std::function<void(std::chrono::milliseconds, std::function<void()>)>;

    NetBackend(std::unique_ptr<NetPort> port, MacAddress mac, Later later = {})
        : port_(std::move(port)), mac_(mac), later_(std::move(later)) {}
    std::uint32_t id() const override { return 1; }
    const char* type() const override { return "net"; }
    unsigned queues() const override { return 3; }  // receive, transmit, control
    std::uint64_t features() const override;
    void notified(unsigned queue) override;
    void negotiated() override { port_->set_offloads(negotiated_offloads()); }
    void reset() override;
    std::uint8_t config(unsigned offset) const override;
    void quiesce() override;
    void arrive() override;
    void resume() override;
    std::vector<std::vector<std::uint8_t>> take_input(std::size_t most) override;
    void give_input(std::span<const std::uint8_t> frame) override;
    void save(BlobWriter& w) const override { w.put(static_cast<std::uint8_t>(announcing_)); }
    bool load(BlobReader& r) override;

    void input();   // the port has frames
    void output();  // the port takes frames again
    NetPort& port() { return *port_; }

  private:
    std::uint64_t negotiated_offloads() const;
    void transmit();
    void control();
    std::uint8_t control_command(const Chain& c);
    std::size_t next_frame();  // into frame_: what followed the guest here first
    // RARP as if sent by the guest, at once: switches learn where it is now (RFC 903). And the guest is asked to announce
    // its addresses itself (5.1.6.5.4), if its driver can: it knows its IP addresses and VLANs. A little later: what
    // already waits for an answer comes first.
    void announce();
    void ask_guest_to_announce();

    std::unique_ptr<NetPort> port_;
    MacAddress mac_;
    Later later_;
    std::deque<std::vector<std::uint8_t>> late_;  // frames that reached the guest's former host
    // What comes in and what goes out, one frame each.
    std::vector<std::uint8_t> frame_ = std::vector<std::uint8_t>(kVirtioNetHeader + kLargestPacket),
                              out_ = frame_;
    std::size_t held_ = 0;  // bytes of frame_ that wait for a receive buffer
    bool parked_ = false, loaded_ = false, announcing_ = false;
    bool stalled_ = false;  // the port has taken no more: frames wait in the guest's queue
    bool asking_ = false;   // the guest will be told about announcing_
};

}  // namespace proa::vmm
