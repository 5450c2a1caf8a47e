// The EL1 and EL0 system registers of one vCPU that live in hardware while it is loaded on a pCPU.
#pragma once
#include <cstdint>

#include "hypervisor/abi/state.hpp"

namespace proa::hv {

struct El1Context {
    std::uint64_t sctlr = 0, cpacr = 0, ttbr0 = 0, ttbr1 = 0, tcr = 0, mair = 0, amair = 0;
    std::uint64_t esr = 0, far = 0, afsr0 = 0, afsr1 = 0, par = 0, vbar = 0, contextidr = 0;
    std::uint64_t tpidr_el0 = 0, tpidrro_el0 = 0, tpidr_el1 = 0, csselr = 0, cntkctl = 0, mdscr = 0;
    std::uint64_t sp_el0 = 0, sp_el1 = 0, elr = 0, spsr = 0;
    std::uint64_t apia[2] = {}, apib[2] = {}, apda[2] = {}, apdb[2] = {}, apga[2] = {};
    std::uint64_t cntv_ctl = 0, cntv_cval = 0;

    void reset();
    void save(bool pauth);  // hardware -> this; leaves the virtual timer stopped
    void load(bool pauth) const;

    void export_to(abi::VcpuState& s) const;
    void import_from(const abi::VcpuState& s);  // masks what a peer may not set (RES0 in every implementation)
};

}  // namespace proa::hv
