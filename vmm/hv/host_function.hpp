// proa-hv's host function: facts, statistics and the log, for proad.
#pragma once
#include "vmm/hv/function.hpp"
#include "vmm/hv/huge_memory.hpp"

namespace proa::vmm {

class HostFunction {
  public:
    static Result<std::unique_ptr<HostFunction>> open();
    Result<abi::HostInfo> info();
    Result<std::string> log();  // all that the ring still holds
    Result<std::vector<abi::PcpuStats>> cpus();
    // Nothing if a guest that was shown `p` can run here; else what is missing.
    Result<void> check(const abi::CpuPolicy& p);
    Result<std::vector<abi::GuestStats>> guests();  // index = slot - 1

  private:
    std::unique_ptr<HugeMemory> memory_;
    std::unique_ptr<ControlFunction> function_;
};

}  // namespace proa::vmm
