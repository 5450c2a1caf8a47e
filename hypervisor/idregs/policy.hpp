// Which CPU a guest is shown. Every ID_AA64* register is sixteen 4-bit fields (D19.2); a field is hidden, presented at
// most at the host's value, or (CTR, MIDR, counter frequency) must be equal. The table says which.
#pragma once
#include <cstdint>

#include "hypervisor/abi/state.hpp"

namespace proa::hv {

abi::CpuPolicy sanitize(const abi::CpuPolicy& host);

struct PolicyMismatch {
    bool found = false;
    unsigned word = 0;   // 64-bit word of CpuPolicy
    unsigned shift = 0;  // field's lowest bit; 0 and `whole` for registers compared as a whole
    bool whole = false;
};
// Whether a guest that was shown `guest` may run where `host` is the most that can be shown.
PolicyMismatch check(const abi::CpuPolicy& guest, const abi::CpuPolicy& host);

// The value of a trapped ID register, op0 = 3, op1 = 0, CRn = 0 (HCR_EL2.TID3 space).
std::uint64_t read_id_register(const abi::CpuPolicy& p, unsigned crm, unsigned op2);

}  // namespace proa::hv
