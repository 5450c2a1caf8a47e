// The xl.cfg parser on anything: a guest's config comes from a user, and with a migration from another host.
#include <cstddef>
#include <cstdlib>

#include "vmm/config/guest_config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto c = proa::vmm::parse_config(text, "fuzz.cfg");
    if (!c) return c.error().what.empty() ? (std::abort(), 0) : 0;
    if (c->vcpus == 0 || c->memory_mib == 0) std::abort();
    std::uint64_t mask = 0;
    (void)proa::vmm::parse_cpu_list(text, mask);
    return 0;
}
