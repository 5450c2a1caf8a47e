// The debug UART: a PL011 (PrimeCell r1p5 TRM) written by polling, at boot and in a panic only; the control domain
// owns it in between.
#pragma once
#include <cstddef>
#include <cstdint>

namespace proa::hv {

void uart_init(std::uint64_t base);  // 0: none
void uart_write(const char* text, std::size_t size);

}  // namespace proa::hv
