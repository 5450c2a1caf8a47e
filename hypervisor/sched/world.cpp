#include "hypervisor/sched/world.hpp"

#include "hypervisor/arch/barrier.hpp"
#include "hypervisor/arch/gic.hpp"
#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

// ICH_LR<n>_EL2 is S3_4_C12_C12_<n> for n < 8 and S3_4_C12_C13_<n - 8> above.
#define PROA_LR(n, crm, op2) PROA_SYSREG(IchLr##n, "S3_4_C12_" #crm "_" #op2)
PROA_LR(0, C12, 0);
PROA_LR(1, C12, 1);
PROA_LR(2, C12, 2);
PROA_LR(3, C12, 3);
PROA_LR(4, C12, 4);
PROA_LR(5, C12, 5);
PROA_LR(6, C12, 6);
PROA_LR(7, C12, 7);
PROA_LR(8, C13, 0);
PROA_LR(9, C13, 1);
PROA_LR(10, C13, 2);
PROA_LR(11, C13, 3);
PROA_LR(12, C13, 4);
PROA_LR(13, C13, 5);
PROA_LR(14, C13, 6);
PROA_LR(15, C13, 7);
#undef PROA_LR

struct LrAccess {
    std::uint64_t (*read)();
    void (*write)(std::uint64_t);
};
constexpr LrAccess kLr[LrFile::kMax] = {
    {IchLr0::read, IchLr0::write},   {IchLr1::read, IchLr1::write},   {IchLr2::read, IchLr2::write},
    {IchLr3::read, IchLr3::write},   {IchLr4::read, IchLr4::write},   {IchLr5::read, IchLr5::write},
    {IchLr6::read, IchLr6::write},   {IchLr7::read, IchLr7::write},   {IchLr8::read, IchLr8::write},
    {IchLr9::read, IchLr9::write},   {IchLr10::read, IchLr10::write}, {IchLr11::read, IchLr11::write},
    {IchLr12::read, IchLr12::write}, {IchLr13::read, IchLr13::write}, {IchLr14::read, IchLr14::write},
    {IchLr15::read, IchLr15::write},
};

bool has_pauth() {
    // APA [7:4], API [11:8], GPA [27:24], GPI [31:28] of ISAR1; APA3 [15:12] of ISAR2.
    return (IdAa64isar1El1::read() & 0xff00'0ff0) != 0 || field(IdAa64isar2El1::read(), 12, 4) != 0;
}

// gic.lock held, v loaded: its timer is the one in hardware.
void settle_timer(Vcpu& v) {
    const bool met = (CntvCtlEl0::read() & (cnt_ctl::ENABLE | cnt_ctl::IMASK | cnt_ctl::ISTATUS)) ==
                     (cnt_ctl::ENABLE | cnt_ctl::ISTATUS);
    if (v.gic->vgic.settle_timer(v.index, met))
        phys_gic().set_private_active(Pcpu::self().redistributor, kPpiVirtTimer, false);
}

}  // namespace

void load_world(Vcpu& v, Pcpu& self) {
    if (VttbrEl2::read() != v.vttbr) VttbrEl2::write(v.vttbr);
    if (HcrEl2::read() != v.hcr) HcrEl2::write(v.hcr);
    VmpidrEl2::write(v.vmpidr);
    VpidrEl2::write(v.vpidr);
    if (CntvoffEl2::read() != v.cntvoff) CntvoffEl2::write(v.cntvoff);
    CnthctlEl2::write(v.control ? cnthctl::EL1PCTEN : 0);
    isb();
    v.el1.load(has_pauth());
    fp_load(&v.fp);
    v.gic_cpu.load();
    v.lrs.count = static_cast<unsigned>(field(IchVtrEl2::read(), 0, 5)) + 1;
    // The virtual timer's physical interrupt stays active until the guest's EOI; another vCPU's must not inherit it.
    v.gic->lock.lock();
    const bool in_flight = v.gic->vgic.in_flight(v.index, kPpiVirtTimer);
    v.gic->lock.unlock();
    phys_gic().set_private_active(self.redistributor, kPpiVirtTimer, in_flight);
}

void save_world(Vcpu& v, Pcpu& self) {
    v.el1.save(has_pauth());
    fp_save(&v.fp);
    v.gic_cpu.save();
    IchHcrEl2::write(0);
    phys_gic().set_private_active(self.redistributor, kPpiVirtTimer, false);
}

void gic_sync(Vcpu& v) {
    if (v.gic_synced) return;
    for (unsigned i = 0; i < v.lrs.used; ++i) {
        v.lrs.lr[i] = kLr[i].read();
        kLr[i].write(0);
    }
    v.lrs.hcr = IchHcrEl2::read();
    v.gic->lock.lock();
    v.gic->vgic.sync(v.index, v.lrs);
    settle_timer(v);
    v.gic->lock.unlock();
    v.gic_synced = true;
}

void flush_world(Vcpu& v) {
    v.gic->lock.lock();
    settle_timer(v);
    v.gic->vgic.flush(v.index, v.lrs);
    v.gic->lock.unlock();
    for (unsigned i = 0; i < v.lrs.used; ++i) kLr[i].write(v.lrs.lr[i]);
    IchHcrEl2::write(v.lrs.hcr);
    isb();
    v.gic_synced = false;
}

}  // namespace proa::hv
