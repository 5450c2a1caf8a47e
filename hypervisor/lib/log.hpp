// proa-hv's log: a ring in memory that `proa dmesg` reads, copied to the UART until the control domain owns it
// (and again in a panic). Arguments are printed in order where the text has {} (decimal, strings) or {x} (hex).
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace proa::hv {

struct LogArg {
    enum class Kind : std::uint8_t { Number, Text } kind;
    std::uint64_t number;
    const char* text;
    LogArg(const char* t) : kind(Kind::Text), number(0), text(t) {}
    template <class T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>) LogArg(T v)
        : kind(Kind::Number), number(static_cast<std::uint64_t>(v)), text(nullptr) {}
};

void log_line(const char* format, const LogArg* args, std::size_t count);

template <class... A>
void log(const char* format, A... args) {
    const LogArg list[] = {LogArg(args)..., LogArg("")};
    log_line(format, list, sizeof...(args));
}

// Copies up to `size` bytes of log from byte `sequence` on; returns how many, moves `sequence` past them (and past
// what the ring has already lost).
std::size_t log_read(std::uint64_t& sequence, std::uint8_t* to, std::size_t size);

struct LogTime {
    std::uint64_t ticks = 0, hz = 0;
};
using LogClock = LogTime (*)();
void log_set_clock(LogClock clock);  // once, at boot; until then lines carry no time

using LogSink = void (*)(const char* text, std::size_t size);
void log_set_sink(LogSink sink);  // null: memory only

[[noreturn]] void panic(const char* format, const LogArg* args, std::size_t count);
template <class... A>
[[noreturn]] void panic(const char* format, A... args) {
    const LogArg list[] = {LogArg(args)..., LogArg("")};
    panic(format, list, sizeof...(args));
}

}  // namespace proa::hv
