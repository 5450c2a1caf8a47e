// virtio over MMIO, version 2 (virtio 1.2, 4.2), for any backend. Interrupt status lives in the machine's latch (proa-hv
// answers 0x60 and 0x64 itself); here only its bits are raised.
#pragma once
#include <functional>
#include <memory>

#include "vmm/device.hpp"
#include "vmm/virtio/queue.hpp"

namespace proa::vmm {

// What differs between device types. Called on the guest's strand.
class VirtioBackend {
  public:
    struct Host {  // what a backend may ask of its transport
        virtual ~Host() = default;
        virtual std::string name() const = 0;  // the device's
        virtual GuestMemory& memory() = 0;
        virtual SplitQueue& queue(unsigned n) = 0;
        virtual bool feature(unsigned bit) const = 0;  // negotiated
        virtual void used(unsigned n) = 0;             // after push(): interrupt if the driver wants one
        virtual void config_changed() = 0;
        virtual void broken(const char* why) = 0;  // the guest broke a rule: DEVICE_NEEDS_RESET
    };

    virtual ~VirtioBackend() = default;
    virtual std::uint32_t id() const = 0;  // 5 of the standard
    virtual const char* type() const = 0;
    virtual unsigned queues() const = 0;
    virtual std::uint64_t features() const = 0;  // besides VERSION_1, INDIRECT_DESC, EVENT_IDX
    virtual void attach(Host& host) { host_ = &host; }
    virtual void notified(unsigned queue) = 0;
    virtual void negotiated() {}  // feature() says what is in force: DRIVER_OK was set, or loaded
    virtual void reset() {}
    virtual std::uint8_t config(unsigned offset) const { return static_cast<void>(offset), 0; }
    virtual void quiesce() {}
    virtual void arrive() {}  // as Device's
    virtual void resume() {}
    virtual std::vector<std::vector<std::uint8_t>> take_input(std::size_t most) {  // as Device's
        return static_cast<void>(most), std::vector<std::vector<std::uint8_t>>{};
    }
    virtual void give_input(std::span<const std::uint8_t>) {}
    virtual void save(BlobWriter&) const {}
    virtual bool load(BlobReader&) { return true; }

  protected:
    Host& host() const { return *host_; }

  private:
    Host* host_ = nullptr;
};

class VirtioMmio final : public Device, private VirtioBackend::Host {
  public:
    VirtioMmio(unsigned slot, GuestMemory& memory, std::unique_ptr<VirtioBackend> backend,
               std::function<void(std::uint32_t)> raise);

    std::string name() const override;
    std::uint64_t read(std::uint64_t offset, unsigned size) override;
    void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;
    void reset() override;
    void quiesce() override { backend_->quiesce(); }
    void arrive() override;
    void resume() override;
    std::vector<std::vector<std::uint8_t>> take_input(std::size_t most) override {
        return backend_->take_input(most);
    }
    void give_input(std::span<const std::uint8_t> b) override { backend_->give_input(b); }
    std::vector<std::uint8_t> save() const override;
    Result<void> load(std::span<const std::uint8_t> state) override;

    void notified(std::uint64_t queues);
    unsigned slot() const { return slot_; }
    VirtioBackend& backend() { return *backend_; }

  private:
    GuestMemory& memory() override { return memory_; }
    SplitQueue& queue(unsigned n) override { return queues_[n]; }
    bool feature(unsigned bit) const override { return (driver_features_ >> bit & 1) != 0; }
    void used(unsigned n) override;
    void config_changed() override;
    void broken(const char* why) override;
    std::uint64_t offered() const;
    void set_status(std::uint8_t v);

    unsigned slot_;
    GuestMemory& memory_;
    std::unique_ptr<VirtioBackend> backend_;
    std::function<void(std::uint32_t)> raise_;
    std::vector<SplitQueue> queues_;
    std::uint64_t driver_features_ = 0;
    std::uint32_t device_sel_ = 0, driver_sel_ = 0, queue_sel_ = 0, generation_ = 0;
    std::uint8_t status_ = 0;
    unsigned complaints_ = 0;  // logged
};

}  // namespace proa::vmm
