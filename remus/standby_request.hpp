// What proads of a pair ask each other and their guests, checked. Pure: JSON and options in, values or refusals out.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/config/guest_config.hpp"
#include "vmm/daemon/daemon.hpp"

namespace proa::remus {

// "etcd://HOST:PORT[,HOST:PORT...]", or "none", which needs `unsafe`; empty: nothing is protected here. Nothing wrong: none.
std::optional<vmm::Error> complaint_about_witness(const std::string& spec, bool unsafe);
// Whether two hosts mean the same witness: the same members, in any order.
bool same_witness(const std::string& a, const std::string& b);

// "protect" of the command line, as the guest's proa-vm gets it: with what only proad knows. `auto_reprotect`: the guest's
// config says so. Throws on a wrong type.
tl::expected<vmm::Json, vmm::CallError> protect_out_arguments(const vmm::Json& asked, bool auto_reprotect,
                                                              const vmm::DaemonOptions& here);

struct ReplicatedDisk {
    std::string name, path;  // Device::name(); the replica on this host
    std::uint64_t size = 0;
    std::size_t index = 0;   // in the guest's config
    std::string at_primary;  // its path there
};

// "standby": a primary asks this host to keep a copy of its guest.
struct StandbyRequest {
    vmm::Json guest;  // what migrate-describe said there
    std::string name, policy, session;
    vmm::GuestConfig config;             // with the replicas' paths instead of the primary's
    std::vector<std::string> overrides;  // of the config's text, that make it so
    std::vector<ReplicatedDisk> disks;
    std::optional<std::uint64_t> term;
    vmm::Json options;  // for its proa-vm: how to protect the guest again after a failover
};
// Refuses what isn't one, and what this host's options forbid. A wrong JSON type throws or refuses.
vmm::Result<StandbyRequest> read_standby_request(const vmm::Json& request, const vmm::DaemonOptions& here);

// Arguments of protect-in. `primary`: the address of the host that asked.
vmm::Json protect_in_arguments(const StandbyRequest& r, const vmm::DaemonOptions& here,
                               const std::string& state_directory, const std::string& primary);

// Whether a guest may be about to end by itself, as its `info` describes it: a standby, or one that doesn't answer (any more).
bool may_be_leaving(const vmm::Json& info);
// Why a guest of that name, as its `info` describes it, is in the way of a standby.
vmm::Error explain_name_taken(const std::string& name, const vmm::Json& info);

}  // namespace proa::remus
