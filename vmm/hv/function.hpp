// One of proa-hv's PCI functions, driven from user space through uio_pci_generic: BAR0 registers, the control area, INTx.
#pragma once
#include <cstdint>
#include <memory>

#include "hypervisor/abi/control.hpp"
#include "vmm/error.hpp"

namespace proa::vmm {

class ControlFunction {
  public:
    // Binds and opens the function of `slot` (0: the host function). `area` is one huge page of the caller's and
    // outlives this; `area_pa` its physical address.
    static Result<std::unique_ptr<ControlFunction>> open(unsigned slot, abi::ControlArea& area,
                                                         std::uint64_t area_pa);
    ~ControlFunction();
    ControlFunction(const ControlFunction&) = delete;
    ControlFunction& operator=(const ControlFunction&) = delete;

    // Fills args, runs, waits out Again (at most ten seconds), returns the command with results. `what` is for errors.
    Result<abi::Command> run(abi::Op op, const char* what, std::initializer_list<std::uint64_t> args = {});
    void write(std::uint64_t reg, std::uint64_t value);
    std::uint64_t read(std::uint64_t reg) const;

    int interrupt_fd() const { return uio_; }
    // After interrupt_fd() was readable: consumes the count, lowers the line, lets the next interrupt through.
    void acknowledge();
    abi::ControlArea& area() { return area_; }

  private:
    ControlFunction(unsigned slot, abi::ControlArea& area) : slot_(slot), area_(area) {}
    Result<void> bind();
    Result<void> attach(std::uint64_t area_pa);
    void set_command(std::uint16_t bits);

    unsigned slot_;
    abi::ControlArea& area_;
    std::string path_;
    int uio_ = -1, config_ = -1;
    std::uint8_t* bar_ = nullptr;
};

}  // namespace proa::vmm
