// EL2's own stage-1 map: virtual = physical, 40 bits, start level 0. Built once at boot, W^X; holes are guard pages.
#pragma once
#include <cstdint>

#include "hypervisor/mm/address.hpp"

namespace proa::hv {

enum class El2Memory : std::uint8_t { Code, ReadOnly, Data, Device };

class El2Map {
  public:
    static constexpr unsigned kVaBits = 40;
    void init();                                          // takes its tables from pool()
    void map(Pa at, std::uint64_t size, El2Memory kind);  // page aligned; panics when the pool is empty
    void unmap_page(Pa at);  // a guard page inside mapped memory; before the map is in use
    std::uint64_t ttbr0() const;

  private:
    std::uint64_t* root_ = nullptr;
};

// The values head.S loads before the first C++ that relies on the MMU, and the first map itself.
std::uint64_t el2_mair();
std::uint64_t el2_tcr();

}  // namespace proa::hv
