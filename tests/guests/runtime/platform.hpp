// QEMU virt's memory map (hw/arm/virt.c), written down here a second time on purpose: the guests must not follow a mistake
// in proa's own headers.
#pragma once
#include <cstdint>

namespace guest {

inline constexpr std::uint64_t kGicd = 0x0800'0000, kGicr = 0x080a'0000, kGicrStride = 0x2'0000;
inline constexpr std::uint64_t kUart = 0x0900'0000, kRtc = 0x0901'0000;
inline constexpr std::uint64_t kVirtio = 0x0a00'0000, kVirtioStride = 0x200;
inline constexpr unsigned kVirtioSlots = 32;
inline constexpr std::uint64_t kRam = 0x4000'0000;
inline constexpr std::uint32_t kUartIntid = 33, kVirtualTimer = 27, kPhysicalTimer = 30;
inline constexpr unsigned kMaxCpus = 8;

}  // namespace guest
