// Device register access with the one instruction whose syndrome is always valid.
#pragma once
#include <cstdint>

namespace proa::hv {

inline std::uint32_t mmio_read32(std::uint64_t at) {
    std::uint32_t v;
    asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
}
inline void mmio_write32(std::uint64_t at, std::uint32_t v) {
    asm volatile("str %w0, [%1]" ::"r"(v), "r"(at) : "memory");
}
inline std::uint64_t mmio_read64(std::uint64_t at) {
    std::uint64_t v;
    asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
}
inline void mmio_write64(std::uint64_t at, std::uint64_t v) {
    asm volatile("str %0, [%1]" ::"r"(v), "r"(at) : "memory");
}
inline void mmio_write8(std::uint64_t at, std::uint8_t v) {
    asm volatile("strb %w0, [%1]" ::"r"(v), "r"(at) : "memory");
}

}  // namespace proa::hv
