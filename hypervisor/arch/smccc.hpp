// proa-hv's own calls to the firmware (PSCI, DEN 0022) by the conduit the device tree names.
#pragma once
#include <cstdint>

namespace proa::hv {

std::int64_t firmware_call(bool hvc, std::uint64_t fn, std::uint64_t a = 0, std::uint64_t b = 0,
                           std::uint64_t c = 0);

namespace psci_fn {
inline constexpr std::uint64_t CpuOn64 = 0xc400'0003, SystemOff = 0x8400'0008, SystemReset = 0x8400'0009;
}

}  // namespace proa::hv
