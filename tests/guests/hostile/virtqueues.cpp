// A driver that breaks the rules (virtio 1.2, 2.7 and 4.2): descriptor loops, buffers outside of RAM, giant lengths, tables
// anywhere, queues reprogrammed while they run.
#include <string.h>

#include "tests/guests/hostile/attacks.hpp"

namespace guest::hostile {
namespace {

struct Descriptor {
    std::uint64_t address;
    std::uint32_t length;
    std::uint16_t flags, next;
};

std::uint64_t address(Random& r) {
    switch (r.below(6)) {
        case 0: return r.next();
        case 1: return kRam + machine().ram_size - r.below(64);
        case 2: return kRam - r.below(64);
        case 3: return r.below(0x1000'0000);
        case 4: return 0xffff'ffff'ffff'ffff - r.below(4096);
        default: return scratch(cpu_index()) + 0x1'0000 + r.below(0x8'0000);
    }
}

std::uint32_t length(Random& r) {
    switch (r.below(4)) {
        case 0: return 0;
        case 1: return static_cast<std::uint32_t>(r.next());
        case 2: return ~0u;
        default: return static_cast<std::uint32_t>(1 + r.below(512));
    }
}

void fill_queue(Random& r, std::uint64_t at, unsigned size) {
    auto* d = reinterpret_cast<Descriptor*>(at);
    for (unsigned i = 0; i < size; ++i)
        d[i] = {r.one_in(3) ? scratch(cpu_index()) + 0x1'0000 + r.below(0x1000) : address(r), length(r),
                static_cast<std::uint16_t>(r.one_in(4) ? r.next() : r.below(8)),
                static_cast<std::uint16_t>(r.one_in(4) ? r.next() : r.below(size))};
    // An indirect table that is as bad.
    auto* indirect = reinterpret_cast<Descriptor*>(scratch(cpu_index()) + 0x1'0000);
    for (unsigned i = 0; i < 16; ++i)
        indirect[i] = {address(r), length(r), static_cast<std::uint16_t>(r.below(8)),
                       static_cast<std::uint16_t>(r.below(20))};
}

void one_device(Random& r, std::uint64_t base) {
    const std::uint64_t memory = scratch(cpu_index());
    const unsigned size = 1u << r.below(8);
    out32(base + 0x70, 0);
    out32(base + 0x70, 1);
    out32(base + 0x70, 3);
    out32(base + 0x24, 0);
    out32(base + 0x20, r.one_in(4) ? static_cast<std::uint32_t>(r.next()) : in32(base + 0x10));
    out32(base + 0x24, 1);
    out32(base + 0x20, r.one_in(8) ? static_cast<std::uint32_t>(r.next()) : 1);
    out32(base + 0x70, 11);
    for (unsigned q = 0; q < 2; ++q) {
        const std::uint64_t desc = memory + q * 0x4000, avail = desc + 0x1000, used = desc + 0x2000;
        fill_queue(r, desc, size);
        auto* ring = reinterpret_cast<std::uint16_t*>(avail);
        for (unsigned i = 0; i < size + 3; ++i)
            ring[i] = static_cast<std::uint16_t>(r.one_in(4) ? r.next() : r.below(size));
        ring[1] = static_cast<std::uint16_t>(r.one_in(4) ? r.next() : 1 + r.below(size));  // avail.idx
        out32(base + 0x30, r.one_in(8) ? static_cast<std::uint32_t>(r.next()) : q);
        out32(base + 0x38, r.one_in(8) ? static_cast<std::uint32_t>(r.next()) : size);
        const std::uint64_t at[3] = {r.one_in(8) ? address(r) : desc, r.one_in(8) ? address(r) : avail,
                                     r.one_in(8) ? address(r) : used};
        for (unsigned i = 0; i < 3; ++i) {
            out32(base + 0x80 + 0x10 * i, static_cast<std::uint32_t>(at[i]));
            out32(base + 0x84 + 0x10 * i, static_cast<std::uint32_t>(at[i] >> 32));
        }
        out32(base + 0x44, 1);
    }
    out32(base + 0x70, 15);
    for (unsigned i = 0; i < 6; ++i) {
        out32(base + 0x50, r.one_in(4) ? static_cast<std::uint32_t>(r.next()) : i & 1);
        auto* ring = reinterpret_cast<std::uint16_t*>(memory + (i & 1) * 0x4000 + 0x1000);
        ring[1] = static_cast<std::uint16_t>(ring[1] + r.below(3));
        if (r.one_in(4))
            out32(base + 4 * r.below(0x40), static_cast<std::uint32_t>(r.next()));  // any register, running
        if (r.one_in(4)) fill_queue(r, memory + (i & 1) * 0x4000, size);            // under the device's eyes
        (void)in32(base + 0x60);
        out32(base + 0x64, static_cast<std::uint32_t>(r.next()));
    }
}

}  // namespace

void virtqueues(Random& r) {
    for (unsigned n = 0; n < 8; ++n) {
        const std::uint64_t base = kVirtio + r.below(4) * kVirtioStride;
        if (in32(base) != 0x7472'6976 || in32(base + 8) == 0) continue;
        one_device(r, base);
        out32(base + 0x70, 0);
    }
}

}  // namespace guest::hostile
