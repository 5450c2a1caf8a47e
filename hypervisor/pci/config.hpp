// Configuration space of one virtual PCI function (PCI Local Bus 3.0, 6.1): a type-0 header with one 32-bit memory
// BAR, INTA and no capabilities. Pure; what a write means for the guest behind the function is returned.
#pragma once
#include <cstdint>

#include "hypervisor/abi/control.hpp"

namespace proa::hv {

enum class ConfigEffect : std::uint8_t { None, BusMasterCleared, IntxChanged };

class PciConfig {
  public:
    void init(std::uint16_t device) { device_ = device; }
    std::uint32_t read(unsigned offset, unsigned size) const;
    ConfigEffect write(unsigned offset, unsigned size, std::uint32_t value);

    bool bus_master() const { return (command_ & kBusMaster) != 0; }
    void set_pending(bool on) { pending_ = on; }
    bool intx() const { return pending_ && (command_ & kIntxDisable) == 0; }
    // Whether a PCI memory address hits the BAR, and where in it.
    bool decodes(std::uint64_t address, std::uint64_t& offset) const;

  private:
    static constexpr std::uint16_t kMemory = 1 << 1, kBusMaster = 1 << 2, kIntxDisable = 1 << 10;
    static constexpr std::uint32_t kIntxStatus = 1 << 3;
    std::uint32_t word(unsigned index) const;

    std::uint16_t device_ = 0, command_ = 0;
    std::uint32_t bar_ = 0;
    std::uint8_t line_ = 0;
    bool pending_ = false;
};

}  // namespace proa::hv
