// The virtual PCI functions as the control domain meets them: ECAM and BAR accesses that trapped.
#pragma once
#include <cstdint>

#include "hypervisor/arch/board.hpp"
#include "hypervisor/domain/guest.hpp"

namespace proa::hv {

struct FunctionLayout {
    std::uint64_t ecam = 0, ecam_size = 0;      // CPU addresses
    std::uint64_t window = 0, window_size = 0;  // CPU address of the memory window
    std::uint64_t window_pci = 0;               // and its PCI address
    std::uint32_t first_intid = 0;
};

void functions_init(const FunctionLayout& layout, const BootInfo& info);

enum class Access : std::uint8_t { NotOurs, Done, Retry };  // Retry: run the same instruction again
Access function_access(Ipa at, unsigned size, bool write, std::uint64_t& value);

void signal_function(Guest& g, bool pending);  // INTx of the guest's function

// Memory a control-domain process may hand to proa-hv: inside a RAM bank and not proa-hv's own.
bool is_control_ram(Pa at, std::uint64_t size);
void reserve_from_control(const Range& r);

}  // namespace proa::hv
