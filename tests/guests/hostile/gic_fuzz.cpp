// Random writes to every register of the distributor and all redistributors, of every width; random SGIs and CPU interface
// writes, with interrupts let in now and then.
#include "tests/guests/hostile/attacks.hpp"
#include "tests/guests/runtime/gic.hpp"

namespace guest::hostile {
namespace {

struct Write {
    std::uint64_t at, value;
    unsigned size;
    bool read;
};

void apply(void* p) {
    const auto& w = *static_cast<Write*>(p);
    std::uint64_t v = w.value;
    switch (w.size * 2 + w.read) {
        case 0: asm volatile("strb %w0, [%1]" ::"r"(v), "r"(w.at) : "memory"); break;
        case 1: asm volatile("ldrb %w0, [%1]" : "=r"(v) : "r"(w.at) : "memory"); break;
        case 2: asm volatile("strh %w0, [%1]" ::"r"(v), "r"(w.at) : "memory"); break;
        case 3: asm volatile("ldrh %w0, [%1]" : "=r"(v) : "r"(w.at) : "memory"); break;
        case 4: asm volatile("str %w0, [%1]" ::"r"(v), "r"(w.at) : "memory"); break;
        case 5: asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(w.at) : "memory"); break;
        case 6: asm volatile("str %0, [%1]" ::"r"(v), "r"(w.at) : "memory"); break;
        default: asm volatile("ldr %0, [%1]" : "=r"(v) : "r"(w.at) : "memory"); break;
    }
}

}  // namespace

void interrupt_controller(Random& r) {
    for (unsigned i = 0; i < 400; ++i) {
        Write w{0, r.one_in(3) ? ~0ull : r.next(), static_cast<unsigned>(r.below(4)), r.one_in(4)};
        w.at = r.one_in(2) ? kGicd + r.below(0x1'0000) : kGicr + r.below((machine().cpus + 1) * kGicrStride);
        if (!r.one_in(3)) w.at &= ~0xf000ull;  // where the registers are, SGI frame and distributor alike
        w.at &= ~((1ull << w.size) - 1);
        (void)attempt(apply, &w);
        if (r.one_in(8)) WRITE_REG("S3_0_C12_C11_5", r.next() & 0xff'ffff'ffff'ffff);
        if (r.one_in(8)) WRITE_REG("S3_0_C12_C12_1", r.below(1020));  // EOI of what is not active
        if (r.one_in(8)) WRITE_REG("S3_0_C12_C11_1", r.below(1020));
        if (r.one_in(16)) (void)acknowledge();
        if (r.one_in(16)) {
            unmask_irqs();
            isb();
            mask_irqs();
        }
    }
}

}  // namespace guest::hostile
