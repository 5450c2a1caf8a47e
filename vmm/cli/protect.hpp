// `proa protect`, `unprotect`, `failover`: what they take, ask of proad and show. Pure but for the verbs at the end.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "vmm/cli/client.hpp"

namespace proa::vmm::cli {

struct ProtectArgs {
    std::string guest, host, interval = "25ms";
    std::string max_lag;  // empty: 200ms, or the interval if that is longer
    std::string ack_timeout = "5s";
    double max_overhead = 10;  // percent
    std::vector<std::string> disks;
    unsigned port = 4650;
    bool no_network_buffer = false, unsafe = false, auto_reprotect = false, plaintext = false, progress = false;
    bool status = false;
    double watch = 0;     // seconds between two looks of --status; 0: one look
    unsigned rounds = 0;  // how many looks; 0: until Ctrl-C
};

// "25ms", "0.2s", "25" (milliseconds). Nothing if it is no duration.
std::optional<double> milliseconds(const std::string& text);
// The guest's own name for a disk, "vda" (or "xvda"), as its device is called: "virtio0:block", which passes too. Empty if
// it is neither.
std::string disk_device(const std::string& name);
// What proad is asked; or what is wrong with the arguments.
Result<Json> protect_request(const ProtectArgs& a);

// Progress and status as text.
std::string format_protecting(const Json& progress);
std::string format_protection(const Json& guests);
std::string format_protection_details(const Json& guest);  // failover and events: below the table of one guest

int protect(const Context& c, const ProtectArgs& a, bool show_progress);
int protect_status(const Context& c, const ProtectArgs& a);
int unprotect(const Context& c, const std::string& guest);
int failover(const Context& c, const std::string& guest);

}  // namespace proa::vmm::cli
