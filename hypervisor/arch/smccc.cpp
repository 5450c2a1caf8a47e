#include "hypervisor/arch/smccc.hpp"

namespace proa::hv {

std::int64_t firmware_call(bool hvc, std::uint64_t fn, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
    register std::uint64_t x0 asm("x0") = fn;
    register std::uint64_t x1 asm("x1") = a;
    register std::uint64_t x2 asm("x2") = b;
    register std::uint64_t x3 asm("x3") = c;
#define PROA_CALL(insn)                                                                                      \
    asm volatile(insn                                                                                        \
                 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", \
                   "x12", "x13", "x14", "x15", "x16", "x17", "memory")
    if (hvc)
        PROA_CALL("hvc #0");
    else
        PROA_CALL("smc #0");
#undef PROA_CALL
    return static_cast<std::int64_t>(x0);
}

}  // namespace proa::hv
