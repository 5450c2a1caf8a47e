// How many pages beyond the one that faulted should become writable with it. A trap costs more than a page that is copied
// without need, when a vCPU walks forward through memory; so each fault that comes where the last grant ended doubles
// the grant, and any other ends it. A page given too much is reported as written: that is always safe, the copy of it is
// just not needed. Pure; one for each vCPU.
#pragma once
#include <cstdint>

namespace proa::hv {

class WriteAround {
  public:
    static constexpr std::uint64_t kMost = 16;

    // A write to `page` met the log: give it, and at most so many after it.
    std::uint64_t more(std::uint64_t page) {
        if (page != next_)
            window_ = 0;
        else if (window_ < kMost)
            window_ = window_ == 0 ? 1 : 2 * window_;
        return window_;
    }
    // `page` and `given` after it can be written now.
    void gave(std::uint64_t page, std::uint64_t given) { next_ = page + given + 1; }

  private:
    std::uint64_t next_ = ~0ull, window_ = 0;
};

}  // namespace proa::hv
