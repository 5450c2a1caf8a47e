// When each guest must stop by itself: the decisions, without locks and guests (fence.cpp has those). Pure.
#pragma once
#include <cstdint>

#include "hypervisor/abi/control.hpp"

namespace proa::hv {

class Fences {
  public:
    static constexpr std::uint64_t kNever = ~0ull;

    constexpr Fences() {
        for (auto& a : at_) a = kNever;
    }

    void set(unsigned slot, std::uint64_t at) {  // 0: none
        at_[slot] = at == 0 ? kNever : at;
        seen_to_[slot] = false;
    }
    bool passed(unsigned slot, std::uint64_t now) const { return now >= at_[slot]; }

    // The earliest one that take_due() hasn't named yet; kNever: none.
    std::uint64_t earliest() const {
        std::uint64_t least = kNever;
        for (unsigned s = 0; s < kSlots; ++s)
            if (!seen_to_[s] && at_[s] < least) least = at_[s];
        return least;
    }
    // A slot whose fence has passed, each once; 0: none.
    unsigned take_due(std::uint64_t now) {
        for (unsigned s = 1; s < kSlots; ++s)
            if (!seen_to_[s] && passed(s, now) && at_[s] != kNever) {
                seen_to_[s] = true;
                return s;
            }
        return 0;
    }

  private:
    static constexpr unsigned kSlots = abi::kGuestSlots + 1;
    std::uint64_t at_[kSlots] = {};
    bool seen_to_[kSlots] = {};
};

}  // namespace proa::hv
