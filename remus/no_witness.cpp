#include "remus/no_witness.hpp"

#include <algorithm>

namespace proa::remus {

vmm::Result<std::optional<Holder>> NoWitness::look(const std::string&) {
    return std::nullopt;
}

vmm::Result<Witness::Claim> NoWitness::claim(const std::string& guest, const std::string&, const std::string&,
                                             std::chrono::milliseconds, std::uint64_t after) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    std::lock_guard lock(mutex_);
    // A backup that follows a primary has a later term than it, whatever their clocks say.
    last_ = std::max({last_ + 1, after + 1, static_cast<std::uint64_t>(us)});
    return Claim{Held{last_, 0, guest}, {}};
}

vmm::Result<Witness::Answer> NoWitness::renew(const Held&) {
    return Answer::Yes;
}

vmm::Result<Witness::Answer> NoWitness::settle(const std::string&, const std::string&, const std::string&,
                                               const Held&) {
    return Answer::Yes;
}

vmm::Result<Witness::Answer> NoWitness::release(const std::string&, const std::string&) {
    return Answer::Yes;
}

}  // namespace proa::remus
