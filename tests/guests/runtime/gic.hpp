// GICv3 (IHI 0069) as a bare-metal guest uses it: affinity routing, group 1, system registers.
#pragma once
#include <cstdint>

#include "tests/guests/runtime/platform.hpp"
#include "tests/guests/runtime/sysreg.hpp"

namespace guest {

namespace gicd {
inline constexpr std::uint64_t kCtlr = 0x0, kTyper = 0x4, kGroup = 0x80, kSetEnable = 0x100,
                               kClearEnable = 0x180, kSetPending = 0x200, kClearPending = 0x280,
                               kSetActive = 0x300, kClearActive = 0x380, kPriority = 0x400, kConfig = 0xc00,
                               kRouter = 0x6000;
}
inline constexpr std::uint8_t kDefaultPriority = 0xa0;
inline constexpr std::uint32_t kSpurious = 1020;  // and above

void gic_init();      // the distributor: once
void gic_init_cpu();  // this CPU's redistributor and CPU interface

void enable_irq(std::uint32_t intid, bool on = true);  // private ones: this CPU's
void set_priority(std::uint32_t intid, std::uint8_t priority);
void set_edge(std::uint32_t intid, bool edge);
void route(std::uint32_t spi, std::uint64_t mpidr);
bool gic_bit(std::uint64_t what, std::uint32_t intid);
void set_gic_bit(std::uint64_t what, std::uint32_t intid);  // kSetPending, kClearActive, ...

inline std::uint32_t acknowledge() {
    const auto v = static_cast<std::uint32_t>(READ_REG("S3_0_C12_C12_0"));  // ICC_IAR1_EL1
    dsb();
    return v & 0xff'ffff;
}
inline void end_of_interrupt(std::uint32_t intid) {
    WRITE_REG("S3_0_C12_C12_1", intid);  // ICC_EOIR1_EL1
    isb();
}
inline void deactivate(std::uint32_t intid) {
    WRITE_REG("S3_0_C12_C11_1", intid);  // ICC_DIR_EL1
    isb();
}
inline void eoi_only_drops(bool on) {
    WRITE_REG("S3_0_C12_C12_4", on ? 2 : 0);  // ICC_CTLR_EL1.EOImode
    isb();
}
inline void priority_mask(std::uint8_t priority) {
    WRITE_REG("S3_0_C4_C6_0", priority);  // ICC_PMR_EL1
    isb();
}

void send_sgi(std::uint32_t intid, std::uint64_t mpidr);
void send_sgi_to_others(std::uint32_t intid);

}  // namespace guest
