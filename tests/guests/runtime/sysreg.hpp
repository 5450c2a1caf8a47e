// System registers by name or encoding, barriers, the counter.
#pragma once
#include <cstdint>

#define READ_REG(name)                                      \
    ([]() -> std::uint64_t {                                \
        std::uint64_t v_;                                   \
        asm volatile("mrs %0, " name : "=r"(v_)::"memory"); \
        return v_;                                          \
    }())
#define WRITE_REG(name, value) \
    asm volatile("msr " name ", %0" ::"r"(static_cast<std::uint64_t>(value)) : "memory")

namespace guest {

inline void isb() {
    asm volatile("isb" ::: "memory");
}
inline void dsb() {
    asm volatile("dsb sy" ::: "memory");
}
inline void wfi() {
    asm volatile("dsb sy\n wfi" ::: "memory");
}
inline void relax() {
    asm volatile("yield" ::: "memory");
}
inline std::uint64_t counter() {
    isb();
    return READ_REG("cntvct_el0");
}
inline std::uint64_t frequency() {
    return READ_REG("cntfrq_el0");
}
inline void unmask_irqs() {
    asm volatile("msr daifclr, #2" ::: "memory");
}
inline void mask_irqs() {
    asm volatile("msr daifset, #2" ::: "memory");
}

// MMIO by the plain forms a hypervisor can decode.
inline std::uint32_t in32(std::uint64_t at) {
    std::uint32_t v;
    asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
}
inline std::uint64_t in64(std::uint64_t at) {
    std::uint64_t v;
    asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
}
inline void out32(std::uint64_t at, std::uint32_t v) {
    asm volatile("str %w0, [%1]" ::"r"(v), "r"(at) : "memory");
}
inline void out64(std::uint64_t at, std::uint64_t v) {
    asm volatile("str %0, [%1]" ::"r"(v), "r"(at) : "memory");
}
inline void out8(std::uint64_t at, std::uint8_t v) {
    asm volatile("strb %w0, [%1]" ::"r"(v), "r"(at) : "memory");
}

}  // namespace guest
