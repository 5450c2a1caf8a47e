#include "vmm/cli/interrupt.hpp"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

namespace proa::vmm::cli {

std::shared_ptr<const std::atomic<bool>> cancel_on_interrupt(const Context& c, const Cancellation& what) {
    sigset_t interrupts;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &interrupts, nullptr);
    auto interrupted = std::make_shared<std::atomic<bool>>(false);
    std::thread([=, socket = c.socket] {
        int which = 0;
        ::sigwait(&interrupts, &which);
        *interrupted = true;
        // sudo and timeout send a signal to the process and to its group: within a second it is the same Ctrl-C.
        const auto first = std::chrono::steady_clock::now();
        const auto pressed_again = [&](const timespec& within) {
            return ::sigtimedwait(&interrupts, nullptr, &within) == SIGINT &&
                   std::chrono::steady_clock::now() - first > std::chrono::seconds(1);
        };
        std::fprintf(stderr, "\nproa: cancelling; %s\n", what.words.c_str());
        const Json cancel{{"guest", what.guest}, {"cmd", what.command}, {"args", Json::object()}};
        // Refused while the hosts still talk about whether it may begin at all: said again.
        bool asked = false;
        do asked = asked || call(socket, "guest", cancel).has_value();
        while (!pressed_again({0, 200'000'000}));
        ::_exit(130);
    }).detach();
    return interrupted;
}

}  // namespace proa::vmm::cli
