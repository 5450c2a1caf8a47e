// Ctrl-C of a command that proad works on for long.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "vmm/cli/client.hpp"

namespace proa::vmm::cli {

struct Cancellation {
    std::string guest, command;  // what to ask of the guest's proa-vm, until it agrees
    std::string words;           // what to say
};
// The first Ctrl-C asks for the cancellation and lets the answer come (exit code 5, or 0 if it was too late); the second
// one leaves at once, and proad cancels because the command is gone. To be called before there are other threads. True as
// soon as Ctrl-C was pressed.
std::shared_ptr<const std::atomic<bool>> cancel_on_interrupt(const Context& c, const Cancellation& what);

}  // namespace proa::vmm::cli
