// Runs something on the guest's own thread and waits for it: the engine's threads touch machine and devices only so.
#pragma once
#include <future>

#include <boost/asio/post.hpp>

#include "vmm/guest.hpp"

namespace proa::migrate {

template <class F>
auto on_guest(vmm::Guest& g, F&& f) {
    std::packaged_task<decltype(f())()> task(std::forward<F>(f));
    auto result = task.get_future();
    boost::asio::post(g.io(), [&task] { task(); });
    return result.get();
}

}  // namespace proa::migrate
