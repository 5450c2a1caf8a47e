#include "hypervisor/domain/domain.hpp"

#include "hypervisor/arch/sysreg.hpp"
#include "hypervisor/idregs/policy.hpp"
#include "hypervisor/sched/dispatcher.hpp"

namespace proa::hv {
namespace {

Domain* the_control_domain;
Stage2Env stage2_env;

abi::CpuPolicy read_host_policy() {
    abi::CpuPolicy p{};
    p.version = abi::kStateVersion;
    p.midr_el1 = MidrEl1::read();
    p.ctr_el0 = CtrEl0::read();
    p.dczid_el0 = DczidEl0::read();
    p.cntfrq_el0 = CntfrqEl0::read();
    p.id_aa64pfr0_el1 = IdAa64pfr0El1::read();
    p.id_aa64pfr1_el1 = IdAa64pfr1El1::read();
    p.id_aa64dfr0_el1 = IdAa64dfr0El1::read();
    p.id_aa64dfr1_el1 = IdAa64dfr1El1::read();
    p.id_aa64isar0_el1 = IdAa64isar0El1::read();
    p.id_aa64isar1_el1 = IdAa64isar1El1::read();
    p.id_aa64isar2_el1 = IdAa64isar2El1::read();
    p.id_aa64mmfr0_el1 = IdAa64mmfr0El1::read();
    p.id_aa64mmfr1_el1 = IdAa64mmfr1El1::read();
    p.id_aa64mmfr2_el1 = IdAa64mmfr2El1::read();
    return p;
}

}  // namespace

Domain& control_domain() {
    return *the_control_domain;
}
void set_control_domain(Domain& d) {
    the_control_domain = &d;
}

const abi::CpuPolicy& host_policy() {
    static constinit abi::CpuPolicy policy{};
    if (policy.version == 0) policy = sanitize(read_host_policy());  // first asked for at boot, by one CPU
    return policy;
}

bool host_has_hardware_dirty() {
    return field(IdAa64mmfr1El1::read(), 0, 4) >= 2;
}

Domain* Domain::create(const DomainConfig& c) {
    Domain* d = pool_new<Domain>();
    if (d == nullptr) return nullptr;
    d->control_ = c.control;
    d->count_ = c.vcpus;
    d->gicd_ = c.gicd;
    d->gicr_ = c.gicr;
    d->policy_ = c.policy;
    d->vcpu_order_ = order_of(sizeof(Vcpu) * c.vcpus);
    d->spi_order_ = order_of(sizeof(Irq) * c.spis);
    d->vcpus_ = static_cast<Vcpu*>(pool().alloc(d->vcpu_order_));
    d->spis_ = static_cast<Irq*>(pool().alloc(d->spi_order_));
    if (d->vcpus_ == nullptr || d->spis_ == nullptr || !d->stage2_.init(stage2_env, c.vmid)) {
        destroy(d);
        return nullptr;
    }
    Vgic::Config g;
    g.vcpus = c.vcpus;
    g.spis = c.spis;
    g.hw = c.hw;
    g.hw_spis = c.hw_spis;
    for (unsigned i = 0; i < c.vcpus; ++i) {
        g.mpidr[i] = c.mpidr != nullptr ? c.mpidr[i] : i;
        Vcpu& v = *new (&d->vcpus_[i]) Vcpu;
        v.domain = d;
        v.gic = &d->gic_;
        v.index = i;
        v.control = c.control;
        v.hcr = c.control ? hcr::kDomain : hcr::kGuest;
        v.vttbr = d->stage2_.vttbr();
        v.vmpidr = 1ull << 31 | g.mpidr[i];
        v.vpidr = c.policy.midr_el1;
        if (c.control) {
            v.node.affinity = 1ull << i;
            v.node.pcpu = static_cast<std::uint16_t>(i);
            v.node.weight = 4 * kDefaultWeight;
        }
        v.reset(0, 0);
    }
    d->gic_.vcpus = d->vcpus_;
    d->gic_.count = d->count_;
    d->gic_.vgic.init(g, d->spis_);
    return d;
}

void Domain::destroy(Domain* d) {
    d->stage2_.destroy();
    if (d->vcpus_ != nullptr) pool().free(d->vcpus_, d->vcpu_order_);
    if (d->spis_ != nullptr) pool().free(d->spis_, d->spi_order_);
    pool_delete(d);
}

Vcpu* Domain::vcpu_by_mpidr(std::uint64_t mpidr) {
    for (unsigned i = 0; i < count_; ++i)
        if (((vcpus_[i].vmpidr ^ mpidr) & kMpidrAffinity) == 0) return &vcpus_[i];
    return nullptr;
}

void Domain::deliver_kicks() {
    kick_gic(gic_);
}

void Domain::set_irq(std::uint32_t intid, bool level) {
    gic_.lock.lock();
    gic_.vgic.set_line(intid, level);
    gic_.lock.unlock();
    deliver_kicks();
}

bool Domain::gic_access(Ipa at, unsigned size, bool write, std::uint64_t& value) {
    const bool dist = at.v >= gicd_ && at.v < gicd_ + abi::kGicdSize;
    const bool redist = at.v >= gicr_ && at.v < gicr_ + count_ * abi::kGicrStride;
    if (!dist && !redist) return false;
    // The accessing vCPU's own list registers hold state the registers must show.
    if (Vcpu* here = Pcpu::self().loaded; here != nullptr && here->domain == this) gic_sync(*here);
    gic_.lock.lock();
    if (dist && write)
        gic_.vgic.gicd_write(at.v - gicd_, size, value);
    else if (dist)
        value = gic_.vgic.gicd_read(at.v - gicd_, size);
    else if (write)
        gic_.vgic.gicr_write(at.v - gicr_, size, value);
    else
        value = gic_.vgic.gicr_read(at.v - gicr_, size);
    gic_.lock.unlock();
    if (write) deliver_kicks();
    return true;
}

bool Domain::write_fault(Vcpu& v, Ipa at, bool walk) {
    Guard guard(mm_lock);
    const auto copy = [this](Ipa page, Pa from) {  // EL2 sees the control domain's RAM at its own address
        if (!copies.take((page.v - abi::kRamBase) / kPage, reinterpret_cast<const void*>(from.v))) return false;
        ++copied_pages;
        return true;
    };
    switch (stage2_.write_fault(at, copy, walk ? nullptr : &v.write_around)) {
        case WriteFault::Resolved:
        case WriteFault::Stale: return true;
        case WriteFault::NotWritable: return false;
        case WriteFault::NoRoom:
            // Under the lock: who makes room does so under it, and wakes whom it finds waiting.
            ++copy_waits;
            block(v, Vcpu::CopyWait);
            return true;
    }
    return false;
}

void Domain::access_fault(Ipa at) {
    Guard guard(mm_lock);
    stage2_.access_fault(at);
}

void Domain::wake_copy_waiters() {
    for (unsigned i = 0; i < count_; ++i) unblock(vcpus_[i], Vcpu::CopyWait);
}

void Domain::pause_all() {
    for (unsigned i = 0; i < count_; ++i) block(vcpus_[i], Vcpu::Paused);
}

void Domain::resume_all() {
    for (unsigned i = 0; i < count_; ++i) unblock(vcpus_[i], Vcpu::Paused);
}

bool Domain::all_quiet() {
    bool quiet = true;
    for (unsigned i = 0; i < count_; ++i) quiet = is_quiet(vcpus_[i]) && quiet;
    return quiet;
}

void Domain::stop_clock() {
    stopped_counter = CntpctEl0::read() - vcpus_[0].cntvoff;
}

void Domain::start_clock() {
    const std::uint64_t offset = CntpctEl0::read() - stopped_counter;
    for (unsigned i = 0; i < count_; ++i) vcpus_[i].cntvoff = offset;
}

}  // namespace proa::hv
