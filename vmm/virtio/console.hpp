// virtio-console (virtio 1.2, 5.3), one port: the guest's hvc0. And virtio-rng (5.4).
#pragma once
#include <deque>
#include <functional>

#include "vmm/virtio/mmio.hpp"

namespace proa::vmm {

class ConsoleBackend final : public VirtioBackend {
  public:
    explicit ConsoleBackend(std::function<void(std::span<const std::uint8_t>)> output)
        : output_(std::move(output)) {}
    std::uint32_t id() const override { return 3; }
    const char* type() const override { return "console"; }
    unsigned queues() const override { return 2; }
    std::uint64_t features() const override { return 1; }  // VIRTIO_CONSOLE_F_SIZE
    std::uint8_t config(unsigned offset) const override;
    void notified(unsigned queue) override;
    void reset() override { pending_.clear(); }
    void quiesce() override { parked_ = true; }
    void resume() override { parked_ = false; }
    void save(BlobWriter& w) const override;
    bool load(BlobReader& r) override;
    void input(std::span<const std::uint8_t> bytes);  // beyond 64 KiB that the guest doesn't read: dropped
    void resize(std::uint16_t columns, std::uint16_t rows);  // 0, 0 until somebody attaches with a terminal
    bool active() { return host().queue(0).ready; }

  private:
    void feed();
    std::function<void(std::span<const std::uint8_t>)> output_;
    std::deque<std::uint8_t> pending_;
    std::uint16_t size_[2] = {};  // columns, rows
    bool parked_ = false;
};

class RngBackend final : public VirtioBackend {
  public:
    std::uint32_t id() const override { return 4; }
    const char* type() const override { return "rng"; }
    unsigned queues() const override { return 1; }
    std::uint64_t features() const override { return 0; }
    void notified(unsigned queue) override;
    void quiesce() override { parked_ = true; }
    void resume() override { parked_ = false; }

  private:
    bool parked_ = false;
};

}  // namespace proa::vmm
