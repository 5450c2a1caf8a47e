// A flattened device tree (Devicetree Specification 0.4, chapter 5), read in one pass.
#include "tests/guests/runtime/machine.hpp"

#include <string.h>

extern "C" char image_end[];

namespace guest {
namespace {

Machine the_machine;

std::uint32_t be32(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
           static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}
std::uint64_t be64(const std::uint8_t* p) {
    return static_cast<std::uint64_t>(be32(p)) << 32 | be32(p + 4);
}

bool starts_with(const char* s, const char* with) {
    return strncmp(s, with, strlen(with)) == 0;
}

struct Property {
    const char *node, *parent, *name;
    const std::uint8_t* value;
    std::uint32_t size;
};

void take(Machine& m, const Property& p) {
    if (starts_with(p.node, "memory") && strcmp(p.name, "reg") == 0 && p.size >= 16 && m.ram_size == 0) {
        m.ram_base = be64(p.value);
        m.ram_size = be64(p.value + 8);
    } else if (starts_with(p.node, "cpu@") && strcmp(p.name, "reg") == 0 && m.cpus < kMaxCpus) {
        m.mpidr[m.cpus++] = p.size == 8 ? be64(p.value) : be32(p.value);
    } else if (strcmp(p.node, "psci") == 0 && strcmp(p.name, "method") == 0) {
        m.hvc = strcmp(reinterpret_cast<const char*>(p.value), "hvc") == 0;
    } else if (strcmp(p.node, "chosen") == 0 && strcmp(p.name, "bootargs") == 0) {
        const auto n = p.size < sizeof(m.arguments) ? p.size : sizeof(m.arguments) - 1;
        memcpy(m.arguments, p.value, n);
    }
}

}  // namespace

const Machine& machine() {
    return the_machine;
}

bool read_machine(const void* tree) {
    constexpr std::uint32_t kMagic = 0xd00d'feed, kBegin = 1, kEnd = 2, kProp = 3, kNop = 4;
    const auto* base = static_cast<const std::uint8_t*>(tree);
    if (be32(base) != kMagic) return false;
    const std::uint8_t* at = base + be32(base + 8);
    const char* strings = reinterpret_cast<const char*>(base) + be32(base + 12);
    const char* path[8] = {};
    unsigned depth = 0;
    for (;;) {
        const std::uint32_t token = be32(at);
        at += 4;
        if (token == kBegin) {
            const char* name = reinterpret_cast<const char*>(at);
            at += (strlen(name) + 4) & ~3ull;
            if (depth < 8) path[depth] = name;
            ++depth;
        } else if (token == kEnd) {
            --depth;
        } else if (token == kProp) {
            const std::uint32_t size = be32(at), name = be32(at + 4);
            if (depth >= 1 && depth <= 8)
                take(the_machine,
                     {path[depth - 1], depth > 1 ? path[depth - 2] : "", strings + name, at + 8, size});
            at += 8 + ((size + 3) & ~3u);
        } else if (token != kNop) {
            return the_machine.cpus != 0;
        }
    }
}

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
    const std::size_t n = strlen(name);
    for (const char* at = the_machine.arguments; *at != 0; ++at) {
        const bool word = at == the_machine.arguments || at[-1] == ' ';
        if (!word || strncmp(at, name, n) != 0 || at[n] != '=') continue;
        at += n + 1;
        unsigned base = 10;
        if (at[0] == '0' && at[1] == 'x') base = 16, at += 2;
        std::uint64_t v = 0;
        for (;; ++at) {
            const unsigned d = *at >= '0' && *at <= '9'   ? static_cast<unsigned>(*at - '0')
                               : *at >= 'a' && *at <= 'f' ? static_cast<unsigned>(*at - 'a') + 10
                                                          : 99;
            if (d >= base) return v;
            v = v * base + d;
        }
    }
    return otherwise;
}

FreeRam free_ram() {
    const std::uint64_t base = (reinterpret_cast<std::uint64_t>(image_end) + 0x1f'ffff) & ~0x1f'ffffull;
    return {base, the_machine.ram_base + the_machine.ram_size - base};
}

}  // namespace guest
