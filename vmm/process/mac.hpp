// A guest's MAC address: the configured one, or one made from its name (stable across hosts and restarts) under the
// locally administered prefix QEMU uses, 52:54:00.
#pragma once
#include <cstdio>
#include <string>

#include "vmm/virtio/net.hpp"

namespace proa::vmm {

inline MacAddress mac_for(const std::string& guest, std::size_t index, const std::string& configured) {
    MacAddress m{0x52, 0x54, 0x00};
    unsigned b[6];
    if (std::sscanf(configured.c_str(), "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) == 6) {
        for (unsigned i = 0; i < 6; ++i) m[i] = static_cast<std::uint8_t>(b[i]);
        return m;
    }
    std::uint32_t h = 2166136261u;  // FNV-1a
    for (const char c : guest + "/" + std::to_string(index)) h = (h ^ static_cast<std::uint8_t>(c)) * 16777619u;
    m[3] = static_cast<std::uint8_t>(h >> 16);
    m[4] = static_cast<std::uint8_t>(h >> 8);
    m[5] = static_cast<std::uint8_t>(h);
    return m;
}

}  // namespace proa::vmm
