#include "tests/guests/hostile/attacks.hpp"

extern "C" char image_end[];

namespace guest::hostile {
namespace {

struct Access {
    std::uint64_t at, value;
    unsigned kind;
};

// Every kind of load and store a hypervisor may have to decode, or refuse.
void access(void* p) {
    const auto& a = *static_cast<Access*>(p);
    std::uint64_t v = a.value;
    switch (a.kind % 16) {
        case 0: asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(a.at) : "memory"); break;
        case 1: asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(a.at) : "memory"); break;
        case 2: asm volatile("ldrb %w0, [%1]" : "=r"(v) : "r"(a.at) : "memory"); break;
        case 3: asm volatile("ldrsh %0, [%1]" : "=r"(v) : "r"(a.at) : "memory"); break;
        case 4: asm volatile("str %0, [%1]" ::"r"(v), "r"(a.at) : "memory"); break;
        case 5: asm volatile("str %w0, [%1]" ::"r"(v), "r"(a.at) : "memory"); break;
        case 6: asm volatile("strb %w0, [%1]" ::"r"(v), "r"(a.at) : "memory"); break;
        case 7: asm volatile("strh %w0, [%1]" ::"r"(v), "r"(a.at) : "memory"); break;
        case 8: asm volatile("stp %0, %0, [%1]" ::"r"(v), "r"(a.at) : "memory"); break;
        case 9: asm volatile("ldp %0, x9, [%1]" : "=r"(v) : "r"(a.at) : "x9", "memory"); break;
        case 10:
            asm volatile("ldxr %0, [%1]\n stxr w9, %0, [%1]" : "=&r"(v) : "r"(a.at) : "x9", "memory");
            break;
        case 11: asm volatile("str %0, [%1], #8" ::"r"(v), "r"(a.at) : "memory"); break;
        case 12: asm volatile("ldar %0, [%1]" : "=r"(v) : "r"(a.at) : "memory"); break;
        case 13: asm volatile("dc zva, %0" ::"r"(a.at) : "memory"); break;
        case 14: asm volatile("prfm pldl1keep, [%0]" ::"r"(a.at) : "memory"); break;
        case 15: reinterpret_cast<void (*)()>(a.at)(); break;
    }
}

bool ours(std::uint64_t at) {
    return at + 4096 > kRam && at < reinterpret_cast<std::uint64_t>(image_end) + 16;
}

void at(Random& r, std::uint64_t address) {
    Access a{address, r.next(), static_cast<unsigned>(r.below(16))};
    const bool device_code = a.kind == 15;
    if (ours(address) || (device_code && address >= kRam))
        return;  // jumping into RAM runs what happens to lie there
    (void)attempt(access, &a);
}

}  // namespace

void anywhere_in_the_address_space(Random& r) {
    for (unsigned i = 0; i < 400; ++i) {
        std::uint64_t a = r.next() & 0xff'ffff'ffff;
        if (r.one_in(3)) a &= 0x7fff'ffff;  // where devices and RAM are
        if (r.one_in(4)) a &= ~0xfffull;
        if (r.one_in(8)) a = kRam + machine().ram_size + r.below(1 << 22) - 64;  // RAM's end
        if (r.one_in(16)) a = 0x3f'0000'0000 + r.below(1 << 29);                 // the control domain's bridge
        at(r, a);
    }
}

void into_devices(Random& r) {
    constexpr std::uint64_t kBases[] = {kGicd, kGicr, kUart, kRtc, kVirtio, kVirtio, 0x0902'0000, 0x0903'0000};
    for (unsigned i = 0; i < 200; ++i) {
        std::uint64_t a = kBases[r.below(8)] + r.below(0x4000);
        if (!r.one_in(4)) a &= ~3ull;
        if (a >= kUart && a < kUart + 4) continue;  // its data register is how we speak
        at(r, a);
    }
}

void cache_maintenance(Random& r) {
    for (unsigned i = 0; i < 200; ++i) {
        Access a{r.one_in(2) ? scratch(cpu_index()) + r.below(kScratchSize) : r.next() & 0xff'ffff'ffff,
                 r.next(), static_cast<unsigned>(r.below(8))};
        if (ours(a.at)) continue;
        (void)attempt(
            [](void* p) {
                const auto& x = *static_cast<Access*>(p);
                switch (x.kind) {
                    case 0: asm volatile("dc civac, %0" ::"r"(x.at) : "memory"); break;
                    case 1: asm volatile("dc cvac, %0" ::"r"(x.at) : "memory"); break;
                    case 2: asm volatile("dc cvau, %0" ::"r"(x.at) : "memory"); break;
                    case 3: asm volatile("dc csw, %0" ::"r"(x.value & 0xffff'ffff) : "memory"); break;
                    case 4: asm volatile("dc cisw, %0" ::"r"(x.value & 0xffff'ffff) : "memory"); break;
                    case 5: asm volatile("ic ivau, %0" ::"r"(x.at) : "memory"); break;
                    case 6: asm volatile("ic iallu\n ic ialluis" ::: "memory"); break;
                    case 7:
                        asm volatile("tlbi vmalle1\n tlbi vmalle1is\n tlbi vae1is, %0\n dsb sy" ::"r"(x.value)
                                     : "memory");
                        break;
                }
            },
            &a);
    }
}

}  // namespace guest::hostile
