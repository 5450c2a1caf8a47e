// PSCI (DEN 0022) and raw HVC/SMC.
#pragma once
#include <cstdint>

#include "tests/guests/runtime/machine.hpp"

namespace guest {

inline constexpr std::uint64_t kPsciVersion = 0x8400'0000, kCpuOff = 0x8400'0002, kCpuOn = 0xc400'0003,
                               kAffinityInfo = 0xc400'0004, kSystemOff = 0x8400'0008,
                               kSystemReset = 0x8400'0009, kPsciFeatures = 0x8400'000a;
inline constexpr std::int64_t kSuccess = 0, kNotSupported = -1, kInvalidParameters = -2, kAlreadyOn = -4,
                              kOnPending = -5;

inline std::int64_t hvc(std::uint64_t fn, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0) {
    register std::uint64_t x0 asm("x0") = fn;
    register std::uint64_t x1 asm("x1") = a;
    register std::uint64_t x2 asm("x2") = b;
    register std::uint64_t x3 asm("x3") = c;
    asm volatile("hvc #0"
                 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
                   "x12", "x13", "x14", "x15", "x16", "x17", "memory");
    return static_cast<std::int64_t>(x0);
}
inline std::int64_t smc(std::uint64_t fn, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0) {
    register std::uint64_t x0 asm("x0") = fn;
    register std::uint64_t x1 asm("x1") = a;
    register std::uint64_t x2 asm("x2") = b;
    register std::uint64_t x3 asm("x3") = c;
    asm volatile("smc #0"
                 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
                   "x12", "x13", "x14", "x15", "x16", "x17", "memory");
    return static_cast<std::int64_t>(x0);
}
inline std::int64_t psci(std::uint64_t fn, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0) {
    return machine().hvc ? hvc(fn, a, b, c) : smc(fn, a, b, c);
}

[[noreturn]] inline void power_off() {
    for (;;) psci(kSystemOff);
}

}  // namespace guest
