// A domain: vCPUs, an interrupt controller, a stage-2 address space. The control domain and guests differ in what
// backs their interrupts and in what an access outside RAM means; both are here, the differences in traps.cpp and
// guest.hpp. Locks: mm_lock (stage 2), gic.lock; lifecycle fields belong to the slot's lock (functions.hpp).
#pragma once
#include <cstdint>

#include "hypervisor/abi/control.hpp"
#include "hypervisor/mm/copy_pool.hpp"
#include "hypervisor/mm/stage2_env.hpp"
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

struct DomainConfig {
    bool control = false;
    unsigned vcpus = 1, spis = 32, vmid = 1;
    const std::uint64_t* mpidr = nullptr;
    std::uint64_t gicd = abi::kGicdBase, gicr = abi::kGicrBase;
    HwOps* hw = nullptr;
    unsigned hw_spis = 0;
    abi::CpuPolicy policy{};
};

class Domain {
  public:
    // Null if the pool lacks memory; nothing leaks then.
    static Domain* create(const DomainConfig& config);
    static void destroy(Domain* d);  // every vCPU quiet

    unsigned vcpu_count() const { return count_; }
    Vcpu& vcpu(unsigned i) { return vcpus_[i]; }
    Vcpu* vcpu_by_mpidr(std::uint64_t mpidr);
    bool control() const { return control_; }
    const abi::CpuPolicy& policy() const { return policy_; }

    Stage2& stage2() { return stage2_; }
    GicUnit& gic() { return gic_; }
    Spinlock mm_lock;
    // A vCPU's write met a page without permission: true if it is to be retried (which may be after a wait, when the page
    // is held and the pool full), false if it can't be. `walk`: it was its MMU's, for a translation.
    bool write_fault(Vcpu& v, Ipa at, bool walk);
    void access_fault(Ipa at);  // an access met memory without the access flag: it is to be retried
    void wake_copy_waiters();   // under mm_lock
    CopyPool copies;
    bool holding = false;  // pages may be held
    std::uint64_t copied_pages = 0, copy_waits = 0;

    Spinlock power_lock;  // PSCI CPU_ON; nothing else is taken under it but the dispatcher's lock

    void deliver_kicks();
    void set_irq(std::uint32_t intid, bool level);

    // GIC frames of this domain: true if the access was one and is done.
    bool gic_access(Ipa at, unsigned size, bool write, std::uint64_t& value);

    void pause_all();
    void resume_all();
    bool all_quiet();

    // Time: the guest's counter stands still while the domain is paused.
    void stop_clock();
    void start_clock();
    std::uint64_t stopped_counter = 0;

  private:
    bool control_ = false;
    unsigned count_ = 0;
    Vcpu* vcpus_ = nullptr;
    unsigned vcpu_order_ = 0, spi_order_ = 0;
    Irq* spis_ = nullptr;
    GicUnit gic_;
    Stage2 stage2_;
    std::uint64_t gicd_ = 0, gicr_ = 0;
    abi::CpuPolicy policy_{};
};

Domain& control_domain();
void set_control_domain(Domain& d);
const abi::CpuPolicy& host_policy();  // the most a guest can be shown here
bool host_has_hardware_dirty();

}  // namespace proa::hv
