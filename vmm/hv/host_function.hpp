// proa-hv's host function: facts, statistics and the log, for proad.
#pragma once
#include "vmm/hv/function.hpp"
#include "vmm/hv/huge_memory.hpp"

namespace proa::vmm {

class HostFunction {
  public:
    static Result<std::unique_ptr<HostFunction>> open();
    Result<abi::HostInfo> info();
    // What the ring still holds from byte `sequence` on; moves `sequence` past it.
    Result<std::string> log(std::uint64_t& sequence);
    Result<std::vector<abi::PcpuStats>> cpus();
    // Nothing if a guest that was shown `p` can run here; else what is missing.
    Result<void> check(const abi::CpuPolicy& p);
    Result<std::vector<abi::GuestStats>> guests();  // index = slot - 1

  private:
    std::unique_ptr<HugeMemory> memory_;
    std::unique_ptr<ControlFunction> function_;
};

}  // namespace proa::vmm
