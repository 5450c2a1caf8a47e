#include "hypervisor/domain/power.hpp"

#include "hypervisor/arch/smccc.hpp"
#include "hypervisor/domain/guest.hpp"
#include "hypervisor/lib/log.hpp"
#include "hypervisor/psci/psci.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

bool firmware_hvc;

std::int64_t cpu_on(Domain& d, const PsciRequest& r) {
    Vcpu* target = d.vcpu_by_mpidr(r.args[0] & kMpidrAffinity);
    if (target == nullptr) return psci_result::InvalidParameters;
    if ((r.args[1] & 3) != 0) return psci_result::InvalidAddress;
    // Of two callers one starts it. The other must not get past this line: it would wait here, at EL2, for a running
    // vCPU to become quiet.
    Guard guard(d.power_lock);
    if ((target->reasons & Vcpu::Off) == 0) return psci_result::AlreadyOn;
    while (!is_quiet(*target)) asm volatile("yield");  // its own CPU_OFF is not quite over
    target->reset(r.args[1], r.args[2]);
    unblock(*target, Vcpu::Wfi);
    unblock(*target, Vcpu::Off);
    return psci_result::Success;
}

std::int64_t affinity_info(Domain& d, const PsciRequest& r) {
    const Vcpu* target = d.vcpu_by_mpidr(r.args[0] & kMpidrAffinity);
    if (target == nullptr || r.args[1] != 0) return psci_result::InvalidParameters;
    return (target->reasons & Vcpu::Off) != 0 ? 1 : 0;
}

void system_down(Vcpu& v, bool reset) {
    if (v.control) {
        log("the control domain {}", reset ? "resets the host" : "powers the host off");
        firmware_call(firmware_hvc, reset ? psci_fn::SystemReset : psci_fn::SystemOff);
        panic("the firmware came back from SYSTEM_OFF");
    }
    guest_stop(*guest_of(*v.domain), reset ? abi::life::Reset : abi::life::PowerOff);
}

}  // namespace

void set_firmware_conduit(bool hvc) {
    firmware_hvc = hvc;
}

void wait_for_interrupt(Vcpu& v) {
    gic_sync(v);
    v.gic->lock.lock();
    const bool ready = v.gic->vgic.has_deliverable(v.index);
    v.gic->lock.unlock();
    if (!ready) sleep_until_interrupt(v);
}

void power_call(Vcpu& v) {
    const PsciRequest r = decode_psci(v.frame.x[0], v.frame.x[1], v.frame.x[2], v.frame.x[3]);
    std::int64_t result = psci_result::NotSupported;
    switch (r.call) {
        case PsciCall::Version: result = psci_result::Version; break;
        case PsciCall::CpuSuspend:
            v.frame.x[0] = psci_result::Success;
            wait_for_interrupt(v);
            return;
        case PsciCall::CpuOff: block(v, Vcpu::Off); return;
        case PsciCall::CpuOn: result = cpu_on(*v.domain, r); break;
        case PsciCall::AffinityInfo: result = affinity_info(*v.domain, r); break;
        case PsciCall::MigrateInfoType: result = psci_result::TosNotPresent; break;
        case PsciCall::SystemOff: system_down(v, false); return;
        case PsciCall::SystemReset: system_down(v, true); return;
        case PsciCall::SystemReset2: system_down(v, true); return;
        case PsciCall::Features: {
            const PsciCall asked = decode_psci(r.args[0], 0, 0, 0).call;
            result = asked == PsciCall::NotSupported || asked == PsciCall::SmcccFeatures
                         ? psci_result::NotSupported
                         : psci_result::Success;
            break;
        }
        case PsciCall::SmcccVersion: result = psci_result::SmcccVersion; break;
        case PsciCall::SmcccFeatures:
            result = decode_psci(r.args[0], 0, 0, 0).call == PsciCall::SmcccVersion ? psci_result::Success
                                                                                    : psci_result::NotSupported;
            break;
        case PsciCall::Workaround:
        case PsciCall::NotSupported: break;
    }
    v.frame.x[0] = static_cast<std::uint64_t>(result);
}

}  // namespace proa::hv
