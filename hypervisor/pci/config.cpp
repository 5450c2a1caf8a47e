#include "hypervisor/pci/config.hpp"

namespace proa::hv {
namespace {

constexpr unsigned kIds = 0, kCommandStatus = 1, kClass = 2, kBar0 = 4, kSubsystem = 11, kInterrupt = 15;
constexpr std::uint32_t kClassOther = 0x0880'0000;  // base system peripheral, other
constexpr std::uint32_t kBarMask = ~(static_cast<std::uint32_t>(abi::kBarSize) - 1);

}  // namespace

std::uint32_t PciConfig::word(unsigned index) const {
    switch (index) {
        case kIds: return static_cast<std::uint32_t>(device_) << 16 | abi::kPciVendor;
        case kCommandStatus: return command_ | (pending_ ? kIntxStatus << 16 : 0);
        case kClass: return kClassOther | 1;
        case kBar0: return bar_;
        case kSubsystem: return static_cast<std::uint32_t>(device_) << 16 | abi::kPciVendor;
        case kInterrupt: return 1u << 8 | line_;  // INTA
        default: return 0;
    }
}

std::uint32_t PciConfig::read(unsigned offset, unsigned size) const {
    const std::uint32_t v = word(offset / 4) >> (8 * (offset & 3));
    return size >= 4 ? v : v & ((1u << (8 * size)) - 1);
}

ConfigEffect PciConfig::write(unsigned offset, unsigned size, std::uint32_t value) {
    const unsigned shift = 8 * (offset & 3);
    const std::uint32_t mask = (size >= 4 ? ~0u : (1u << (8 * size)) - 1) << shift;
    const std::uint32_t merged = (word(offset / 4) & ~mask) | (value << shift & mask);
    switch (offset / 4) {
        case kCommandStatus: {
            const std::uint16_t old = command_;
            command_ = static_cast<std::uint16_t>(merged) & (kMemory | kBusMaster | kIntxDisable);
            if ((old & ~command_ & kBusMaster) != 0) return ConfigEffect::BusMasterCleared;
            return ((old ^ command_) & kIntxDisable) != 0 ? ConfigEffect::IntxChanged : ConfigEffect::None;
        }
        case kBar0: bar_ = merged & kBarMask; return ConfigEffect::None;
        case kInterrupt: line_ = static_cast<std::uint8_t>(merged); return ConfigEffect::None;
        default: return ConfigEffect::None;
    }
}

bool PciConfig::decodes(std::uint64_t address, std::uint64_t& offset) const {
    if ((command_ & kMemory) == 0 || address < bar_ || address - bar_ >= abi::kBarSize) return false;
    offset = address - bar_;
    return true;
}

}  // namespace proa::hv
