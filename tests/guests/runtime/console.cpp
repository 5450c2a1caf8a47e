#include "tests/guests/runtime/console.hpp"

#include "tests/guests/runtime/platform.hpp"
#include "tests/guests/runtime/spinlock.hpp"
#include "tests/guests/runtime/sysreg.hpp"

namespace guest {
namespace {

// PL011 registers (PrimeCell UART TRM, 3.2).
constexpr std::uint64_t kDr = kUart, kFr = kUart + 0x18, kLcrH = kUart + 0x2c, kCr = kUart + 0x30;
constexpr std::uint32_t kRxEmpty = 1 << 4, kTxEmpty = 1 << 7, kFifos = 1 << 4, kEightBits = 3 << 5;
constexpr unsigned kFifoDepth = 16;

Spinlock lock;

struct Line {
    char bytes[200];
    unsigned used = 0;
    void put(char c) {
        if (used < sizeof(bytes)) bytes[used++] = c;
    }
    void text(const char* s) {
        while (*s != 0) put(*s++);
    }
    void number(std::uint64_t v, unsigned base) {
        char digits[20];
        unsigned n = 0;
        do digits[n++] = "0123456789abcdef"[v % base];
        while ((v /= base) != 0);
        while (n != 0) put(digits[--n]);
    }
};

}  // namespace

void console_init() {
    out32(kLcrH, kFifos | kEightBits);
    out32(kCr, 0x301);  // RXE, TXE, UARTEN
}

void print_line(const char* format, const PrintArg* args, std::size_t count) {
    Line l;
    for (const char* f = format; *f != 0; ++f) {
        const bool hex = f[0] == '{' && f[1] == 'x' && f[2] == '}';
        if (!hex && !(f[0] == '{' && f[1] == '}')) {
            l.put(*f);
            continue;
        }
        f += hex ? 2 : 1;
        if (count == 0) continue;
        if (args->negative && !hex) l.put('-');
        if (args->text != nullptr)
            l.text(args->text);
        else
            l.number(args->number, hex ? 16 : 10);
        ++args, --count;
    }
    if (l.used == sizeof(l.bytes)) --l.used;
    l.put('\n');
    const IrqGuard guard(lock);
    for (unsigned i = 0; i < l.used; ++i) {
        if (i % kFifoDepth == 0)
            while ((in32(kFr) & kTxEmpty) == 0) relax();
        out32(kDr, static_cast<std::uint8_t>(l.bytes[i]));
    }
}

int console_getc() {
    const IrqGuard guard(lock);
    return (in32(kFr) & kRxEmpty) != 0 ? -1 : static_cast<int>(in32(kDr) & 0xff);
}

}  // namespace guest
