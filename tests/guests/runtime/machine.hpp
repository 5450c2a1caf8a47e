// What the device tree says: CPUs, RAM, the command line's settings.
#pragma once
#include <cstdint>

#include "tests/guests/runtime/platform.hpp"

namespace guest {

struct Machine {
    unsigned cpus = 0;
    std::uint64_t mpidr[kMaxCpus] = {};
    std::uint64_t ram_base = 0, ram_size = 0;
    bool hvc = true;  // PSCI's conduit
    char arguments[512] = {};
};
const Machine& machine();
bool read_machine(const void* tree);  // false: not a device tree

// `name=123` or `name=0x7b` among the arguments.
std::uint64_t setting(const char* name, std::uint64_t otherwise);

// RAM that is neither the image's nor the device tree's any more (everything above the image).
struct FreeRam {
    std::uint64_t base, size;
};
FreeRam free_ram();

}  // namespace guest
