// A guest's configuration file in xl.cfg(5) syntax: parsed, checked, with file and line in every complaint.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "vmm/error.hpp"

namespace proa::vmm {

enum class OnEnd : std::uint8_t { Destroy, Restart, Preserve };

struct DiskConfig {
    std::string path, device;  // device: the guest's name for it (xvda, vda)
    bool read_only = false;
};
struct VifConfig {
    std::string mac, bridge = "br0", name;
};
struct GuestConfig {
    std::string name, kernel, ramdisk, extra;
    std::uint64_t memory_mib = 256;
    unsigned vcpus = 1, weight = 256;
    std::vector<DiskConfig> disks;
    std::vector<VifConfig> vifs;
    std::uint64_t pcpus = ~0ull;  // `cpus`: bit per pCPU, for every vCPU
    OnEnd on_poweroff = OnEnd::Destroy, on_reboot = OnEnd::Restart, on_crash = OnEnd::Destroy;
    bool auto_reprotect = false;        // high availability: protect it again when a lost host is back
    std::vector<std::string> warnings;  // unknown keys, mappings: one line each
    std::string text;                   // what it was parsed from
};

// `file` is for messages. Extra `key=value` settings may follow in `overrides`, as on xl's command line.
Result<GuestConfig> parse_config(const std::string& text, const std::string& file,
                                 const std::vector<std::string>& overrides = {});

std::vector<std::string> disk_paths(const GuestConfig& c);

// The syntax alone: values by key, with the line each was set on.
struct CfgValue {
    std::variant<std::int64_t, std::string, std::vector<std::string>> value;
    unsigned line = 0;
};
Result<std::map<std::string, CfgValue>> parse_cfg(const std::string& text, const std::string& file);

// "0-3,^1", "all", "2": bits of pCPUs; nothing if it isn't one.
bool parse_cpu_list(const std::string& text, std::uint64_t& mask);

}  // namespace proa::vmm
