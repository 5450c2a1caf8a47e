// proa-hv's implementation of the Checkpointer seam: the commands, the copy pool's memory, the fence register. What is
// copied and by whom, CopyTracker knows.
#pragma once
#include <memory>

#include "vmm/checkpointer.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/hv/copy_tracker.hpp"
#include "vmm/hv/function.hpp"
#include "vmm/hv/huge_memory.hpp"

namespace proa::vmm {

class HvCheckpointer final : public Checkpointer {
  public:
    // None is owned; all outlive this.
    HvCheckpointer(ControlFunction& function, GuestMemory& memory, HugeMemory& huge)
        : function_(function), memory_(memory), huge_(huge) {}
    ~HvCheckpointer() override;

    Result<void> start(abi::DirtyLogMode mode) override;
    Result<void> stop() override;
    bool started() const override { return tracker_ != nullptr; }
    Result<std::uint64_t> hold(dirtylog::Bitmap& pages) override;
    Result<void> resume() override;
    void take_copies(const Copied& f) override;
    Result<void> release(std::uint64_t first, std::uint64_t pages) override;
    Result<void> release_all() override;
    void fence_at(std::uint64_t counter) override;
    std::uint64_t counter() const override;
    std::uint64_t counter_hz() const override;

    static std::uint64_t pool_bytes(std::uint64_t ram);

  private:
    Result<void> simple(abi::Op op, const char* what, std::initializer_list<std::uint64_t> args = {});
    Result<void> give_pool();
    Result<void> log_and_pool_off();

    ControlFunction& function_;
    GuestMemory& memory_;
    HugeMemory& huge_;
    std::unique_ptr<HugeMemory> pool_;
    std::unique_ptr<CopyTracker> tracker_;  // while started
    bool holding_ = false;
};

}  // namespace proa::vmm
