// The seam between user space and whatever runs the vCPUs: proa-hv today, KVM on arm64 meant as the second.
// A Machine is one guest's CPUs, interrupt controller, timers and dirty log. It knows no devices.
// Threading: one owner thread; calls are synchronous and never block for longer than a vCPU takes to stop.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "dirtylog/bitmap.hpp"
#include "hypervisor/abi/control.hpp"
#include "vmm/checkpointer.hpp"
#include "vmm/error.hpp"
#include "vmm/guest_memory.hpp"

namespace proa::vmm {

struct MachineConfig {
    std::string name;
    unsigned vcpus = 1;
    unsigned weight = 256;
    GuestMemory* memory = nullptr;  // not owned; outlives the machine
    abi::CpuPolicy policy{};        // version 0: the host's default
};

// Everything of a guest that is not memory or devices. Valid only as a whole.
struct MachineState {
    std::vector<abi::VcpuState> vcpus;
    abi::GicState gic{};
    abi::TimeState time{};
    abi::LatchState latches{};
    abi::CpuPolicy policy{};
};

// What the guest did that user space must act on.
struct MachineEvents {
    virtual ~MachineEvents() = default;
    virtual std::uint64_t mmio_read(std::uint64_t gpa, unsigned size) = 0;
    virtual void mmio_write(std::uint64_t gpa, unsigned size, std::uint64_t value) = 0;
    virtual void notified(unsigned device, std::uint64_t queues) = 0;  // bit q: queue q was notified
    virtual void powered_off() = 0;
    virtual void reset_requested() = 0;
    virtual void crashed(const std::string& why) = 0;
    virtual void fenced() {}  // the fence has stopped it (Checkpointer::fence_at)
};

class Machine {
  public:
    virtual ~Machine() = default;

    virtual Result<void> run() = 0;
    virtual Result<void> pause() = 0;  // returns when every vCPU has stopped
    virtual Result<void> reset() = 0;  // paused only

    virtual Result<MachineState> save() = 0;               // paused only
    virtual Result<void> load(const MachineState& s) = 0;  // paused only; refuses what this host can't run
    virtual Result<abi::CpuPolicy> policy() = 0;

    virtual Result<void> define_notify(std::uint64_t gpa, unsigned device) = 0;
    virtual Result<void> define_latch(unsigned latch, std::uint64_t gpa, std::uint32_t intid) = 0;
    virtual void set_irq(std::uint32_t intid, bool level) = 0;
    virtual void set_latch(unsigned latch, std::uint32_t bits) = 0;

    virtual Result<void> set_affinity(unsigned vcpu, std::uint64_t pcpus) = 0;
    virtual Result<void> set_weight(unsigned weight) = 0;
    virtual Result<void> set_throttle(unsigned percent) = 0;  // 0..99

    virtual bool has_hardware_dirty_log() const = 0;
    virtual Result<void> dirty_log(abi::DirtyLogMode mode) = 0;
    // Moves the pages dirtied since the last harvest into `into` (one bit a 4 KiB page of RAM) and re-arms.
    virtual Result<std::uint64_t> harvest(dirtylog::Bitmap& into) = 0;
    // Adds the pages that the guest may have accessed since this machine was made, or more; the others hold what they held
    // then. With the log on: up to now, and what is written later is harvested.
    virtual Result<void> accessed(dirtylog::Bitmap& into) = 0;

    virtual Checkpointer* checkpoints() { return nullptr; }  // null: this machine can't

    virtual Result<abi::GuestStats> stats() = 0;

    // File descriptor that becomes readable when there are events; then call dispatch().
    virtual int event_fd() const = 0;
    virtual void dispatch(MachineEvents& to) = 0;
};

}  // namespace proa::vmm
