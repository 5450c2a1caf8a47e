// proa-hv's implementation of the Machine seam.
#pragma once
#include "vmm/hv/function.hpp"
#include "vmm/hv/huge_memory.hpp"
#include "vmm/hv/hv_checkpointer.hpp"
#include "vmm/machine.hpp"

namespace proa::vmm {

class HvMachine final : public Machine {
  public:
    // `huge` is the guest's RAM followed by one chunk for the control area, which is populated; it outlives the machine.
    static Result<std::unique_ptr<HvMachine>> create(unsigned slot, HugeMemory& huge,
                                                     const MachineConfig& config);
    ~HvMachine() override;
    // Once, before run(): all of `huge` is populated now.
    Result<void> map_ram();

    Result<void> run() override;
    Result<void> pause() override;
    Result<void> reset() override;
    Result<MachineState> save() override;
    Result<void> load(const MachineState& s) override;
    Result<abi::CpuPolicy> policy() override;
    Result<void> define_notify(std::uint64_t gpa, unsigned device) override;
    Result<void> define_latch(unsigned latch, std::uint64_t gpa, std::uint32_t intid) override;
    void set_irq(std::uint32_t intid, bool level) override;
    void set_latch(unsigned latch, std::uint32_t bits) override;
    Result<void> set_affinity(unsigned vcpu, std::uint64_t pcpus) override;
    Result<void> set_weight(unsigned weight) override;
    Result<void> set_throttle(unsigned percent) override;
    bool has_hardware_dirty_log() const override { return hardware_dirty_; }
    Result<void> dirty_log(abi::DirtyLogMode mode) override;
    Result<std::uint64_t> harvest(dirtylog::Bitmap& into) override;
    Result<void> accessed(dirtylog::Bitmap& into) override;
    Checkpointer* checkpoints() override { return &checkpointer_; }
    Result<abi::GuestStats> stats() override;
    int event_fd() const override { return function_->interrupt_fd(); }
    void dispatch(MachineEvents& to) override;

  private:
    HvMachine(std::unique_ptr<ControlFunction> f, HugeMemory& huge, const MachineConfig& c)
        : function_(std::move(f)), huge_(huge), config_(c), checkpointer_(*function_, *c.memory, huge) {}
    void answer_exit(unsigned vcpu, MachineEvents& to);
    Result<std::uint64_t> collect(abi::Op op, const char* what, dirtylog::Bitmap& into);
    template <class T>
    Result<T> get(abi::Op op, const char* what, std::uint64_t index = 0);
    template <class T>
    Result<void> put(abi::Op op, const char* what, const T& t, std::uint64_t index = 0);
    Result<void> simple(abi::Op op, const char* what, std::initializer_list<std::uint64_t> args = {});

    std::unique_ptr<ControlFunction> function_;
    HugeMemory& huge_;
    MachineConfig config_;
    bool created_ = false, hardware_dirty_ = false;
    HvCheckpointer checkpointer_;  // goes before the function it talks to
};

}  // namespace proa::vmm
