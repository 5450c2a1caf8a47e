// Lines on the PL011: {} prints a number in decimal or a string, {x} a number in hexadecimal. A line comes out whole,
// whichever CPUs print at once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace guest {

struct PrintArg {
    std::uint64_t number = 0;
    const char* text = nullptr;
    bool negative = false;
    PrintArg(const char* t) : text(t) {}
    template <class T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>) PrintArg(T v) : number(static_cast<std::uint64_t>(v)) {
        if constexpr (std::is_signed_v<T>) {
            negative = v < 0;
            if (negative) number = -number;
        }
    }
};

void print_line(const char* format, const PrintArg* args, std::size_t count);
template <class... A>
void print(const char* format, A... args) {
    const PrintArg list[] = {PrintArg(args)..., PrintArg("")};
    print_line(format, list, sizeof...(args));
}

void console_init();
int console_getc();  // -1: nothing was typed

}  // namespace guest
