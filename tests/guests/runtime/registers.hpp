// Registers that a hypervisor must keep for each vCPU: filled with a pattern, held while time passes, read back.
#pragma once
#include <cstdint>

namespace guest {

// Spins `loops` times in between; the name of a register that changed, or null.
const char* hold_registers(std::uint64_t seed, std::uint64_t loops);
const char* register_sets();  // what is checked on this CPU

}  // namespace guest
