// What ESR_EL2 says about an abort, and what a load leaves in its register. Values in, values out.
#pragma once
#include <cstdint>

namespace proa::hv {

// ISS of a data or instruction abort from a lower EL (D19.2.38).
struct Abort {
    std::uint64_t esr;
    bool valid() const { return (esr >> 24 & 1) != 0; }  // the fields up to wide() are
    unsigned size() const { return 1u << (esr >> 22 & 3); }
    bool sign_extend() const { return (esr >> 21 & 1) != 0; }
    unsigned reg() const { return static_cast<unsigned>(esr >> 16 & 31); }
    bool wide() const { return (esr >> 15 & 1) != 0; }
    bool cache_maintenance() const { return (esr >> 8 & 1) != 0; }
    bool walk() const { return (esr >> 7 & 1) != 0; }  // S1PTW
    bool write() const { return (esr >> 6 & 1) != 0; }
    unsigned status() const { return static_cast<unsigned>(esr & 0x3c); }
    bool translation() const { return status() == 0x04; }
    bool access_flag() const { return status() == 0x08; }
    bool permission() const { return status() == 0x0c; }
    // A stage-1 walk reads what every stage-2 entry lets it read: if permission is what lacks, the guest's MMU wants to
    // set an access flag or a dirty bit in its table, whatever WnR says.
    bool wants_write() const { return permission() && (write() || walk()); }
};

// A load's register after memory gave `value`: LDRSB and the like extend, a W register clears its upper half.
constexpr std::uint64_t loaded(std::uint64_t value, unsigned size, bool sign_extend, bool wide) {
    const unsigned bits = 8 * size;
    if (bits < 64) {
        value &= (1ull << bits) - 1;
        if (sign_extend && (value >> (bits - 1) & 1) != 0) value |= ~0ull << bits;
    }
    return wide ? value : value & 0xffff'ffff;
}

}  // namespace proa::hv
