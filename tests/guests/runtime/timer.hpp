// The generic timers (Arm ARM D11): virtual, and physical (which a hypervisor may emulate).
#pragma once
#include "tests/guests/runtime/sysreg.hpp"

namespace guest {

// Setters don't synchronize: now() and what reads a timer's state come after an ISB of their own or of the handler's end.
inline constexpr std::uint64_t kTimerEnable = 1, kTimerMasked = 2, kTimerMet = 4;

struct VirtualTimer {
    static std::uint64_t now() { return counter(); }
    static std::uint64_t control() { return READ_REG("cntv_ctl_el0"); }
    static void control(std::uint64_t v) { WRITE_REG("cntv_ctl_el0", v); }
    static std::uint64_t compare() { return READ_REG("cntv_cval_el0"); }
    static void compare(std::uint64_t v) { WRITE_REG("cntv_cval_el0", v); }
};
struct PhysicalTimer {
    static std::uint64_t now() {
        isb();
        return READ_REG("cntpct_el0");
    }
    static std::uint64_t control() { return READ_REG("cntp_ctl_el0"); }
    static void control(std::uint64_t v) { WRITE_REG("cntp_ctl_el0", v); }
    static std::uint64_t compare() { return READ_REG("cntp_cval_el0"); }
    static void compare(std::uint64_t v) { WRITE_REG("cntp_cval_el0", v); }
};

}  // namespace guest
