// MRS, MSR, SYS and SYSL of any encoding, made in a buffer and run.
#include "tests/guests/hostile/attacks.hpp"

namespace guest::hostile {
namespace {

struct alignas(64) Code {
    std::uint32_t words[4];
};
Code buffers[kMaxCpus];
constexpr std::uint32_t kRet = 0xd65f'03c0, kIsb = 0xd503'3fdf;

struct Encoding {
    unsigned op0, op1, crn, crm, op2;
    bool is(unsigned a, unsigned b, unsigned c, unsigned d, unsigned e) const {
        return op0 == a && op1 == b && crn == c && crm == d && op2 == e;
    }
};

// What would end this program rather than test the one below: where it fetches, its stack, its vectors.
bool vital(const Encoding& e) {
    return e.is(3, 0, 1, 0, 0) || e.is(3, 0, 2, 0, 0) || e.is(3, 0, 2, 0, 1) ||
           e.is(3, 0, 2, 0, 2) ||  // SCTLR, TTBRs, TCR
           e.is(3, 0, 10, 2, 0) || e.is(3, 0, 12, 0, 0) ||
           (e.op0 == 3 && e.crn == 4 && e.op1 == 0 && e.crm == 2) ||
           e.is(3, 3, 4, 2, 1);  // MAIR, VBAR, SPSel and PAN, DAIF
}

void run(Encoding e, bool read, std::uint64_t value, bool instruction) {
    Code& c = buffers[cpu_index()];
    c.words[0] = 0xd500'0000 | (read ? 1u << 21 : 0) | (instruction ? 1u << 19 : (2u | (e.op0 & 1)) << 19) |
                 e.op1 << 16 | e.crn << 12 | e.crm << 8 | e.op2 << 5;
    c.words[1] = kIsb;
    c.words[2] = kRet;
    asm volatile("dc cvau, %0\n dsb ish\n ic ivau, %0\n dsb ish\n isb" ::"r"(&c) : "memory");
    struct Call {
        Code* code;
        std::uint64_t value;
    } call{&c, value};
    (void)attempt(
        [](void* p) {
            const auto& k = *static_cast<Call*>(p);
            register std::uint64_t x0 asm("x0") = k.value;
            asm volatile("blr %1" : "+r"(x0) : "r"(k.code) : "x30", "memory");
        },
        &call);
}

Encoding random_encoding(Random& r) {
    Encoding e{2u + static_cast<unsigned>(r.below(2)), static_cast<unsigned>(r.below(8)),
               static_cast<unsigned>(r.below(16)), static_cast<unsigned>(r.below(16)),
               static_cast<unsigned>(r.below(8))};
    if (r.one_in(2)) e.op0 = 3;
    if (r.one_in(3)) e.op1 = r.one_in(2) ? 0 : 3;
    if (r.one_in(4)) e.crn = r.one_in(2) ? 12 : 14;  // the GIC's, the timers'
    return e;
}

}  // namespace

void system_registers(Random& r) {
    for (unsigned i = 0; i < 500; ++i) {
        const Encoding e = random_encoding(r);
        const bool read = r.one_in(2);
        if (!read && vital(e)) continue;
        run(e, read, r.one_in(3) ? 0 : r.next(), false);
    }
    WRITE_REG("cpacr_el1", 0);
}

void system_instructions(Random& r) {
    for (unsigned i = 0; i < 300; ++i) {
        Encoding e{1, static_cast<unsigned>(r.below(8)), static_cast<unsigned>(r.below(16)),
                   static_cast<unsigned>(r.below(16)), static_cast<unsigned>(r.below(8))};
        if (r.one_in(2)) e.crn = 7 + static_cast<unsigned>(r.below(2));  // caches, AT; TLBI
        // By virtual address: none of the program's own. DC IVAC and ZVA there would eat it.
        const bool by_address = e.crn == 7;
        run(e, r.one_in(4), by_address ? scratch(cpu_index()) + r.below(kScratchSize) : r.next(), true);
    }
}

}  // namespace guest::hostile
