#include "hypervisor/sched/interrupts.hpp"

#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/domain/domain.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

// The virtual timer of whoever is loaded: stays active at the GIC until the guest's EOI of its HW list register.
void virtual_timer_fired(Pcpu& self) {
    PhysGic::drop_priority(kPpiVirtTimer);
    Vcpu* v = self.loaded;
    if (v == nullptr) {
        PhysGic::deactivate(kPpiVirtTimer);
        return;
    }
    gic_sync(*v);
    v->gic->lock.lock();
    v->gic->vgic.set_private_line(v->index, kPpiVirtTimer,
                                  false);  // it fell unseen, or could not have fired again
    v->gic->vgic.set_private_line(v->index, kPpiVirtTimer, true);
    v->gic->lock.unlock();
    v->domain->deliver_kicks();
}

void dispatch(Pcpu& self, std::uint32_t intid) {
    ++self.interrupts;
    switch (intid) {
        case kPpiVirtTimer: virtual_timer_fired(self); return;
        case kSgiKick: ++self.ipis; break;
        case kPpiHypTimer: timer_fired(self); break;
        case kPpiMaintenance:
            if (self.loaded != nullptr) {
                gic_sync(*self.loaded);
                IchHcrEl2::write(0);
            }
            break;
        default:
            PhysGic::drop_priority(intid);
            if (intid >= 32) control_domain().hardware_interrupt(intid);
            return;
    }
    PhysGic::drop_priority(intid);
    PhysGic::deactivate(intid);
}

}  // namespace

void handle_interrupts() {
    Pcpu& self = Pcpu::self();
    for (;;) {
        const std::uint32_t intid = PhysGic::acknowledge();
        if (intid >= icc::kSpurious && intid <= 1023) return;
        dispatch(self, intid);
    }
}

}  // namespace proa::hv
