// The readable end: message, registers, a stack walk by frame pointers. Stops this CPU; the others keep their domains
// until they next need it, which is more than a reset would leave of the host.
#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/context.hpp"
#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/arch/uart.hpp"
#include "hypervisor/lib/log.hpp"

extern "C" char image_start[], text_end[];

namespace proa::hv {
namespace {

const char* name_of(unsigned kind) {
    static const char* const names[] = {"synchronous", "IRQ", "FIQ", "SError"};
    return names[kind & 3];
}

void dump(const TrapFrame& f) {
    const auto base = reinterpret_cast<std::uint64_t>(image_start);
    log("  PC {x} (image + {x})  PSTATE {x}  SP {x}", f.pc, f.pc - base, f.pstate, f.reserved);
    for (unsigned i = 0; i < 30; i += 3)
        log("  x{} {x}  x{} {x}  x{} {x}", i, f.x[i], i + 1, f.x[i + 1], i + 2, f.x[i + 2]);
    log("  x30 {x}  ESR_EL2 {x}  FAR_EL2 {x}  HPFAR_EL2 {x}", f.x[30], EsrEl2::read(), FarEl2::read(),
        HpfarEl2::read());
    std::uint64_t fp = f.x[29];
    for (unsigned depth = 0; depth < 12 && fp != 0 && (fp & 15) == 0; ++depth) {
        auto* frame = reinterpret_cast<const std::uint64_t*>(fp);
        if (frame[1] < base || frame[1] >= reinterpret_cast<std::uint64_t>(text_end)) break;
        log("  called from image + {x}", frame[1] - base);
        if (frame[0] <= fp) break;
        fp = frame[0];
    }
}

[[noreturn]] void halt() {
    for (;;) wfi();
}

}  // namespace

[[noreturn]] void panic(const char* format, const LogArg* args, std::size_t count) {
    log_set_sink(uart_write);
    log("proa-hv panic on CPU {x}:", MpidrEl1::read() & kMpidrAffinity);
    log_line(format, args, count);
    halt();
}

}  // namespace proa::hv

extern "C" [[noreturn]] void el2_fault(unsigned vector, proa::hv::TrapFrame* frame) {
    using namespace proa::hv;
    log_set_sink(uart_write);
    log("proa-hv panic on CPU {x}: {} exception {} EL2 (vector {})", MpidrEl1::read() & kMpidrAffinity,
        name_of(vector), vector < 8 ? "in" : "from AArch32 below", vector);
    dump(*frame);
    halt();
}
