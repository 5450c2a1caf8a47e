#include "hypervisor/lib/log.hpp"

#include "hypervisor/lib/spinlock.hpp"

namespace proa::hv {
namespace {

constexpr std::size_t kRing = 64 * 1024, kLine = 256;

Spinlock lock;
std::uint8_t ring[kRing];
std::uint64_t written;  // bytes ever; ring[written % kRing] is next
LogSink sink;
LogClock clock;

struct Line {
    char text[kLine];
    std::size_t size = 0;
    void put(char c) {
        if (size < kLine - 1) text[size++] = c;
    }
    void put(const char* s) {
        while (*s != 0) put(*s++);
    }
    void number(std::uint64_t v, unsigned base, unsigned width = 0) {
        char digits[24];
        unsigned n = 0;
        do {
            digits[n++] = "0123456789abcdef"[v % base];
            v /= base;
        } while (v != 0);
        while (n < width) digits[n++] = '0';
        while (n > 0) put(digits[--n]);
    }
    void format(const char* f, const LogArg* args, std::size_t count) {
        std::size_t next = 0;
        for (; *f != 0; ++f) {
            const bool hex = f[0] == '{' && f[1] == 'x' && f[2] == '}';
            if (!hex && !(f[0] == '{' && f[1] == '}')) {
                put(*f);
                continue;
            }
            f += hex ? 2 : 1;
            if (next >= count) continue;
            const LogArg& a = args[next++];
            if (a.kind == LogArg::Kind::Text)
                put(a.text);
            else if (hex)
                put("0x"), number(a.number, 16);
            else
                number(a.number, 10);
        }
    }
    void stamp() {
        const LogTime now = clock != nullptr ? clock() : LogTime{};
        const std::uint64_t hz = now.hz, t = now.ticks;
        put('[');
        number(hz != 0 ? t / hz : 0, 10);
        put('.');
        number(hz != 0 ? t % hz * 1'000'000 / hz : 0, 10, 6);
        put("] ");
    }
};

void store(const Line& line) {
    for (std::size_t i = 0; i < line.size; ++i)
        ring[written++ % kRing] = static_cast<std::uint8_t>(line.text[i]);
    if (sink != nullptr) sink(line.text, line.size);
}

}  // namespace

void log_line(const char* format, const LogArg* args, std::size_t count) {
    Line line;
    line.stamp();
    line.format(format, args, count);
    line.put('\n');
    Guard guard(lock);
    store(line);
}

std::size_t log_read(std::uint64_t& sequence, std::uint8_t* to, std::size_t size) {
    Guard guard(lock);
    if (sequence > written) sequence = written;
    if (written - sequence > kRing) sequence = written - kRing;
    std::size_t n = 0;
    for (; n < size && sequence < written; ++n) to[n] = ring[sequence++ % kRing];
    return n;
}

void log_set_clock(LogClock c) {
    clock = c;
}

void log_set_sink(LogSink s) {
    Guard guard(lock);
    sink = s;
}

}  // namespace proa::hv
