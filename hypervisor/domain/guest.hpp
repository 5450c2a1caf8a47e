// What a guest has that the control domain hasn't: a slot, a control area shared with proa-vm, fast MMIO regions, a
// dirty log, a lifecycle. One Guest per slot; its lock covers everything here but what is said to be atomic.
#pragma once
#include <cstdint>

#include "hypervisor/abi/control.hpp"
#include "hypervisor/domain/domain.hpp"
#include "hypervisor/pci/config.hpp"

namespace proa::hv {

// An interrupt status register pair served at EL2: reads at gpa give the bits, writes at gpa + 4 clear them; the line
// is up while any is set (virtio-mmio InterruptStatus and InterruptACK).
struct Latch {
    std::uint64_t gpa = 0;  // 0: not defined
    std::uint32_t intid = 0, status = 0;
};

struct PendingMmio {
    std::uint8_t reg = 0, size = 0;
    bool sign_extend = false, wide = false, write = false;
};

struct Guest {
    Spinlock lock;       // commands
    Spinlock fast_lock;  // latches; taken by vCPUs and by BAR writes, nothing under it but gic.lock
    PciConfig config;
    unsigned slot = 0;
    abi::ControlArea* area = nullptr;  // changes only while there is no domain
    Domain* domain = nullptr;

    abi::GuestPhase phase = abi::GuestPhase::None;
    abi::CreateArgs args{};
    std::uint64_t created_ticks = 0, dirty_pages = 0;
    abi::DirtyLogMode log_mode = abi::DirtyLogMode::Off;
    std::uint64_t crash_esr = 0, crash_far = 0, crash_pc = 0;
    std::uint32_t throttle = 0;

    std::uint64_t notify_gpa[abi::kVirtioSlots] = {};
    Latch latches[abi::kVirtioSlots];
    PendingMmio pending[abi::kMaxVcpus];

    void reset_machine();
};

Guest& guest_in(unsigned slot);  // 1..kGuestSlots; slot 0 is the host function
Guest* guest_of(const Domain& d);

// Events to user space; any pCPU, any lock but the control domain's gic.lock may be held.
void post_exit(Guest& g, unsigned vcpu);
void post_notify(Guest& g, unsigned device, std::uint64_t bits);
void post_lifecycle(Guest& g, std::uint64_t bits);

// A vCPU's access to a latch or notify register: true if it was one and is done.
bool fast_access(Guest& g, Ipa at, unsigned size, bool write, std::uint64_t& value);
void set_latch(Guest& g, unsigned latch, std::uint32_t bits);
void refresh_latch_lines(Guest& g);

// From a trap: the guest ends its run (lifecycle bit posted, all vCPUs paused).
void guest_stop(Guest& g, std::uint64_t lifecycle);

}  // namespace proa::hv
