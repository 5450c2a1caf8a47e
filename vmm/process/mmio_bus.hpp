// Which device answers at a guest address. Ranges don't overlap; an address nobody claims reads zero.
#pragma once
#include <cstdint>
#include <vector>

#include "vmm/device.hpp"

namespace proa::vmm {

class MmioBus {
  public:
    void add(std::uint64_t base, std::uint64_t size, Device& d) { ranges_.push_back({base, size, &d}); }
    std::uint64_t read(std::uint64_t gpa, unsigned size) const {
        const Range* r = find(gpa);
        return r != nullptr ? r->device->read(gpa - r->base, size) : 0;
    }
    void write(std::uint64_t gpa, unsigned size, std::uint64_t value) const {
        if (const Range* r = find(gpa)) r->device->write(gpa - r->base, size, value);
    }

  private:
    struct Range {
        std::uint64_t base, size;
        Device* device;
    };
    const Range* find(std::uint64_t gpa) const {
        for (const auto& r : ranges_)
            if (gpa >= r.base && gpa - r.base < r.size) return &r;
        return nullptr;
    }
    std::vector<Range> ranges_;
};

}  // namespace proa::vmm
