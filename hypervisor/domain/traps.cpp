// Every exit from a domain is decoded here and nowhere else. A trap ends in one of three ways: the vCPU resumes, an
// exception is injected into it, or its guest is stopped.
#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/syndrome.hpp"
#include "hypervisor/domain/functions.hpp"
#include "hypervisor/domain/guest.hpp"
#include "hypervisor/domain/power.hpp"
#include "hypervisor/domain/sysreg_traps.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

// HPFAR_EL2 need not be valid for a permission fault on a data access: ask the MMU again (AT S1E1R).
bool faulting_ipa(const Abort& a, std::uint64_t far, Ipa& ipa) {
    if (!a.permission() || a.walk()) {
        ipa = Ipa(field(HpfarEl2::read(), 4, 40) << 12 | (far & (kPage - 1)));
        return true;
    }
    const std::uint64_t par = ParEl1::read();
    asm volatile("at s1e1r, %0\n isb" ::"r"(far) : "memory");
    const std::uint64_t result = ParEl1::read();
    ParEl1::write(par);
    ipa = Ipa((result & 0x000f'ffff'ffff'f000) | (far & (kPage - 1)));
    return (result & 1) == 0;
}

bool mapped(Domain& d, Ipa ipa) {
    Guard guard(d.mm_lock);
    unsigned level;
    return d.stage2().lookup(ipa, level) != 0;
}

// Addresses user space may back with a device; the rest of what isn't RAM is nothing.
constexpr bool user_space_mmio(Ipa at) {
    return at.v >= abi::kUartBase && at.v < abi::kVirtioBase + abi::kVirtioSlots * abi::kVirtioStride;
}

void exit_to_user(Vcpu& v, Guest& g, const Abort& a, Ipa ipa) {
    abi::VcpuExit& e = g.area->exits[v.index];
    g.pending[v.index] = {static_cast<std::uint8_t>(a.reg()), static_cast<std::uint8_t>(a.size()),
                          a.sign_extend(), a.wide(), a.write()};
    e.size = a.size();
    e.gpa = ipa.v;
    e.value = a.write() ? v.reg(a.reg()) : 0;
    e.count = e.count + 1;
    __atomic_store_n(&e.kind, a.write() ? +abi::VcpuExit::MmioWrite : +abi::VcpuExit::MmioRead,
                     __ATOMIC_RELEASE);
    block(v, Vcpu::Exit);
    post_exit(g, v.index);
}

void mmio(Vcpu& v, const Abort& a, Ipa ipa, std::uint64_t far) {
    const auto refuse = [&] { inject_external_abort(v, false, far); };
    if (!a.valid() || a.walk() || a.cache_maintenance()) return refuse();
    std::uint64_t value = a.write() ? v.reg(a.reg()) : 0;
    if (a.size() < 8) value &= bit(8 * a.size()) - 1;
    if (v.domain->gic_access(ipa, a.size(), a.write(), value)) {
        v.count(abi::ExitKind::Gic);
    } else if (v.control) {
        switch (function_access(ipa, a.size(), a.write(), value)) {
            case Access::Done: break;
            case Access::Retry: return;
            case Access::NotOurs: return refuse();
        }
    } else {
        Guest* g = guest_of(*v.domain);
        if (fast_access(*g, ipa, a.size(), a.write(), value)) {
            v.count(abi::ExitKind::Notify);
        } else if (user_space_mmio(ipa) && g->area != nullptr) {
            v.count(abi::ExitKind::Mmio);
            return exit_to_user(v, *g, a, ipa);
        } else {
            return refuse();
        }
    }
    if (!a.write()) v.set_reg(a.reg(), loaded(value, a.size(), a.sign_extend(), a.wide()));
    v.advance_pc();
}

void data_abort(Vcpu& v, std::uint64_t esr) {
    const Abort a{esr};
    const std::uint64_t far = FarEl2::read();
    Ipa ipa;
    if (!a.translation() && !a.permission() && !a.access_flag()) return inject_external_abort(v, false, far);
    if (!faulting_ipa(a, far, ipa)) return;  // stage 1 changed under it: run it again
    if (a.permission()) {
        v.count(abi::ExitKind::DirtyFault);
        if (!a.wants_write()) return inject_external_abort(v, false, far);
        if (!v.domain->write_fault(v, ipa, a.walk())) inject_external_abort(v, false, far);
        return;
    }
    v.count(abi::ExitKind::Stage2Fault);
    if (a.access_flag()) return v.domain->access_fault(ipa);
    if (mapped(*v.domain, ipa)) return;  // a block was being split; it is there now
    mmio(v, a, ipa, far);
}

void instruction_abort(Vcpu& v, std::uint64_t esr) {
    v.count(abi::ExitKind::Stage2Fault);
    const Abort a{esr};
    const std::uint64_t far = FarEl2::read();
    const Ipa ipa(field(HpfarEl2::read(), 4, 40) << 12 | (far & (kPage - 1)));
    if (a.access_flag()) return v.domain->access_fault(ipa);
    if (a.permission() && a.walk()) {
        if (v.domain->write_fault(v, ipa, true)) return;
    } else if (a.translation() && mapped(*v.domain, ipa)) {
        return;
    }
    inject_external_abort(v, true, far);
}

void synchronous(Vcpu& v) {
    const std::uint64_t esr = EsrEl2::read();
    switch (esr_ec(esr)) {
        case ec::Wfx:
            v.count(abi::ExitKind::Wfx);
            v.advance_pc();
            wait_for_interrupt(v);
            return;
        case ec::Hvc64:
            v.count(abi::ExitKind::Hvc);
            power_call(v);
            return;
        case ec::Smc64:
            v.count(abi::ExitKind::Smc);
            v.advance_pc();  // trapped before it executed
            power_call(v);
            return;
        case ec::SysReg:
            v.count(abi::ExitKind::SysReg);
            if (sysreg_trap(v, esr))
                v.advance_pc();
            else
                inject_undefined(v);
            return;
        case ec::DataAbortLower: data_abort(v, esr); return;
        case ec::InstAbortLower: instruction_abort(v, esr); return;
        default:
            v.count(abi::ExitKind::Other);
            inject_undefined(v);
            return;
    }
}

enum Vector : unsigned { kSynchronous, kIrq, kFiq, kSError };

void serror(Vcpu& v) {
    log("SError from {} vCPU {}: ESR {x} PC {x}", v.control ? "the control domain's" : "a guest's", v.index,
        EsrEl2::read(), v.frame.pc);
    if (v.control) return;
    Guest& g = *guest_of(*v.domain);
    g.crash_esr = EsrEl2::read();
    g.crash_far = FarEl2::read();
    g.crash_pc = v.frame.pc;
    guest_stop(g, abi::life::Crash);
}

}  // namespace
}  // namespace proa::hv

extern "C" void trap_entry(unsigned kind) {
    using namespace proa::hv;
    Pcpu& self = Pcpu::self();
    ++self.exits;
    Vcpu& v = *self.current;
    switch (kind) {
        case kSynchronous: synchronous(v); break;
        case kIrq:
        case kFiq:
            v.count(proa::abi::ExitKind::Irq);
            handle_interrupts();
            break;
        default: serror(v); break;
    }
    leave_hypervisor();
}
