#include "vmm/process/incoming_memory.hpp"

#include <sys/resource.h>

#include <boost/asio/post.hpp>

namespace proa::vmm {
namespace {

// Where CPUs are few, the pages that come in go first.
constexpr int kNice = 10;

}  // namespace

void IncomingMemory::begin() {
    std::call_once(begun_, [this] { thread_ = std::jthread([this] { run(); }); });
}

void IncomingMemory::run() {
    (void)::setpriority(PRIO_PROCESS, 0, kNice);  // 0: on Linux, this thread
    Result<void> r;
    for (std::uint64_t i = 0; i < chunks_ && r; ++i)
        r = stopped_ ? fail("the guest was ended before its memory was there") : populate_(i);
    boost::asio::post(io_, [this, r] { end_.set_value(r ? present_() : r); });
}

Result<bool> IncomingMemory::within(std::chrono::milliseconds time) {
    begin();
    if (ended_.wait_for(time) != std::future_status::ready) return false;
    const auto& r = ended_.get();
    return r ? Result<bool>(true) : tl::unexpected(r.error());
}

bool IncomingMemory::ready() const {
    return ended_.wait_for(std::chrono::seconds(0)) == std::future_status::ready && ended_.get().has_value();
}

}  // namespace proa::vmm
