// The C library functions the compiler and libfdt call. Byte loops: nothing here is on a hot path.
#include <cstddef>
#include <cstdint>

#include "hypervisor/lib/log.hpp"

extern "C" {

void* memcpy(void* to, const void* from, std::size_t n) {
    auto* d = static_cast<unsigned char*>(to);
    auto* s = static_cast<const unsigned char*>(from);
    for (std::size_t i = 0; i < n; ++i) d[i] = s[i];
    return to;
}

void* memmove(void* to, const void* from, std::size_t n) {
    auto* d = static_cast<unsigned char*>(to);
    auto* s = static_cast<const unsigned char*>(from);
    if (d < s)
        for (std::size_t i = 0; i < n; ++i) d[i] = s[i];
    else
        while (n-- > 0) d[n] = s[n];
    return to;
}

void* memset(void* to, int c, std::size_t n) {
    auto* d = static_cast<unsigned char*>(to);
    std::size_t i = 0;
    if ((reinterpret_cast<std::uintptr_t>(to) & 7) == 0 && c == 0)
        for (; i + 8 <= n; i += 8) *reinterpret_cast<std::uint64_t*>(d + i) = 0;
    for (; i < n; ++i) d[i] = static_cast<unsigned char>(c);
    return to;
}

int memcmp(const void* a, const void* b, std::size_t n) {
    auto* x = static_cast<const unsigned char*>(a);
    auto* y = static_cast<const unsigned char*>(b);
    for (std::size_t i = 0; i < n; ++i)
        if (x[i] != y[i]) return x[i] - y[i];
    return 0;
}

void* memchr(const void* a, int c, std::size_t n) {
    auto* x = static_cast<const unsigned char*>(a);
    for (std::size_t i = 0; i < n; ++i)
        if (x[i] == static_cast<unsigned char>(c)) return const_cast<unsigned char*>(x + i);
    return nullptr;
}

std::size_t strnlen(const char* s, std::size_t max) {
    std::size_t n = 0;
    while (n < max && s[n] != 0) ++n;
    return n;
}
std::size_t strlen(const char* s) {
    return strnlen(s, ~std::size_t{0});
}

int strcmp(const char* a, const char* b) {
    while (*a != 0 && *a == *b) ++a, ++b;
    return static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
}

char* strchr(const char* s, int c) {
    for (;; ++s) {
        if (*s == static_cast<char>(c)) return const_cast<char*>(s);
        if (*s == 0) return nullptr;
    }
}

char* strrchr(const char* s, int c) {
    const char* found = nullptr;
    for (;; ++s) {
        if (*s == static_cast<char>(c)) found = s;
        if (*s == 0) return const_cast<char*>(found);
    }
}

// libfdt parses unit addresses with it; bases 0, 10 and 16 are enough.
unsigned long strtoul(const char* s, char** end, int base) {
    if ((base == 0 || base == 16) && s[0] == '0' && (s[1] | 32) == 'x') s += 2, base = 16;
    if (base == 0) base = 10;
    unsigned long v = 0;
    for (;; ++s) {
        const int lower = *s | 32;
        int digit = *s >= '0' && *s <= '9' ? *s - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
        if (digit >= base) break;
        v = v * static_cast<unsigned long>(base) + static_cast<unsigned long>(digit);
    }
    if (end != nullptr) *end = const_cast<char*>(s);
    return v;
}

}  // extern "C"

// libfdt.a is Debian's, built with the stack protector.
extern "C" {
std::uintptr_t __stack_chk_guard = 0x5afe'c0de'57ac'4a2d;
[[noreturn]] void __stack_chk_fail() {
    proa::hv::panic("stack smashed in libfdt");
}
}
