// Commands of the host function (slot 0): facts, statistics, the log.
#pragma once
#include "hypervisor/domain/guest.hpp"

namespace proa::hv {

abi::Status host_command(Guest& host, abi::Command& c);
void fill_stats(const Guest& g, abi::GuestStats& s);
void set_image_bytes(std::uint64_t bytes, std::uint64_t boot_ticks);

}  // namespace proa::hv
