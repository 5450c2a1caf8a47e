// PL011 (PrimeCell r1p5 TRM) and PL031 (PrimeCell RTC r1p3 TRM): what Linux, U-Boot and bare-metal images expect on
// QEMU's virt machine.
#pragma once
#include <deque>
#include <functional>

#include "vmm/device.hpp"

namespace proa::vmm {

class Pl011 final : public Device {
  public:
    Pl011(std::function<void(std::span<const std::uint8_t>)> output, std::function<void(bool)> line)
        : output_(std::move(output)), line_(std::move(line)) {}
    std::string name() const override { return "pl011"; }
    std::uint64_t read(std::uint64_t offset, unsigned size) override;
    void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;
    void reset() override;
    std::vector<std::uint8_t> save() const override;
    Result<void> load(std::span<const std::uint8_t> state) override;
    void resume() override { update(); }
    void input(std::span<const std::uint8_t> bytes);
    bool used() const { return (cr_ & 1) != 0; }

  private:
    void update();
    std::function<void(std::span<const std::uint8_t>)> output_;
    std::function<void(bool)> line_;
    std::deque<std::uint8_t> fifo_;
    std::uint32_t cr_ = 0x300, lcr_ = 0, ibrd_ = 0, fbrd_ = 0, ifls_ = 0x12, imsc_ = 0, ris_ = 0;
};

class Pl031 final : public Device {
  public:
    std::string name() const override { return "pl031"; }
    std::uint64_t read(std::uint64_t offset, unsigned size) override;
    void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;
    void reset() override {}
    std::vector<std::uint8_t> save() const override;
    Result<void> load(std::span<const std::uint8_t> state) override;

  private:
    std::uint32_t now() const;
    std::int64_t offset_ = 0;  // the guest's clock less the host's, seconds
    std::uint32_t match_ = 0, imsc_ = 0;
};

}  // namespace proa::vmm
