#include "hypervisor/arch/uart.hpp"

#include "hypervisor/arch/mmio.hpp"

namespace proa::hv {
namespace {

constexpr std::uint64_t kDr = 0x00, kFr = 0x18;
constexpr std::uint32_t kTxFull = 1 << 5;
std::uint64_t uart;

void put(char c) {
    for (unsigned spin = 0; spin < 1'000'000 && (mmio_read32(uart + kFr) & kTxFull) != 0; ++spin) {
    }
    mmio_write32(uart + kDr, static_cast<std::uint8_t>(c));
}

}  // namespace

void uart_init(std::uint64_t base) {
    uart = base;
}

void uart_write(const char* text, std::size_t size) {
    if (uart == 0) return;
    for (std::size_t i = 0; i < size; ++i) {
        if (text[i] == '\n') put('\r');
        put(text[i]);
    }
}

}  // namespace proa::hv
