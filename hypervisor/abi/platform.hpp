// The guest platform: address map and interrupt numbers of QEMU's `virt` machine (hw/arm/virt.c documents
// them as stable), so that whatever boots there boots here. Addresses are guest IPAs, sizes in bytes.
#pragma once
#include <cstdint>

namespace proa::abi {

inline constexpr std::uint64_t kGicdBase = 0x0800'0000, kGicdSize = 0x1'0000;
inline constexpr std::uint64_t kGicrBase = 0x080A'0000, kGicrStride = 0x2'0000;  // RD + SGI frame per vCPU
inline constexpr std::uint64_t kUartBase = 0x0900'0000, kUartSize = 0x1000;      // PL011
inline constexpr std::uint64_t kRtcBase = 0x0901'0000, kRtcSize = 0x1000;        // PL031
inline constexpr std::uint64_t kGpioBase = 0x0903'0000, kGpioSize = 0x1000;      // PL061
inline constexpr std::uint64_t kVirtioBase = 0x0A00'0000, kVirtioStride = 0x200;
inline constexpr unsigned kVirtioSlots = 32;
inline constexpr std::uint64_t kRamBase = 0x4000'0000;

// INTIDs (SPI n is INTID 32 + n).
inline constexpr std::uint32_t kUartIntid = 32 + 1, kRtcIntid = 32 + 2, kGpioIntid = 32 + 7;
inline constexpr std::uint32_t kVirtioIntid0 = 32 + 16;
inline constexpr unsigned kPowerButtonPin = 3;  // of the PL061
inline constexpr std::uint32_t kVirtualTimerIntid = 27, kPhysicalTimerIntid = 30;

inline constexpr unsigned kMaxVcpus = 8;
inline constexpr unsigned kMaxSpis = 256;  // INTIDs 32..287
inline constexpr unsigned kMaxIntids = 32 + kMaxSpis;

}  // namespace proa::abi
