// PL061 (PrimeCell GPIO TRM, DDI 0190): eight lines. Guests find their power button on line 3, as on QEMU's virt
// machine; the other lines are unconnected.
#pragma once
#include <functional>

#include "vmm/device.hpp"

namespace proa::vmm {

class Pl061 final : public Device {
  public:
    explicit Pl061(std::function<void(bool)> line) : line_(std::move(line)) {}
    std::string name() const override { return "pl061"; }
    std::uint64_t read(std::uint64_t offset, unsigned size) override;
    void write(std::uint64_t offset, unsigned size, std::uint64_t value) override;
    void reset() override;  // the guest's registers; what drives the lines from outside stays
    void resume() override { update(); }
    std::vector<std::uint8_t> save() const override;
    Result<void> load(std::span<const std::uint8_t> state) override;

    void set_input(unsigned pin, bool high);
    bool watched(unsigned pin) const { return (ie_ >> pin & 1) != 0; }  // the guest enabled its interrupt

  private:
    std::uint8_t pins() const;     // what GPIODATA shows: outputs where GPIODIR says so, inputs elsewhere
    std::uint8_t raw() const;      // GPIORIS
    void moved(std::uint8_t old);  // pins changed from `old`: latches edges
    void update();

    std::function<void(bool)> line_;
    std::uint8_t in_ = 0, out_ = 0, dir_ = 0;
    std::uint8_t is_ = 0, ibe_ = 0, iev_ = 0, ie_ = 0, afsel_ = 0;
    std::uint8_t edges_ = 0;  // latched until GPIOIC
};

}  // namespace proa::vmm
