// Before a byte moves: can this host take the guest? Every refusal names what is missing and what to do.
#pragma once
#include "vmm/daemon/daemon.hpp"

namespace proa::migrate {

// `guest` is what migrate-describe said at the source.
vmm::Result<void> preflight(vmm::Daemon& here, const vmm::Json& guest);
// The same without its disks.
vmm::Result<void> preflight_host(vmm::Daemon& here, const vmm::Json& guest);

// What preflight() does first: a fraction, or a number that no integer holds, must not reach a conversion to one.
vmm::Result<void> check_numbers(const vmm::Json& guest);
bool policy_from_hex(const std::string& hex, abi::CpuPolicy& p);
std::uint64_t disk_size(const std::string& path);  // 0: not there

}  // namespace proa::migrate
