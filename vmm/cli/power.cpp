// shutdown and reboot: the guest's power button, and waiting for what it does with it.
#include <chrono>
#include <cstdio>
#include <thread>

#include "vmm/cli/verbs.hpp"

namespace proa::vmm::cli {
namespace {

using Clock = std::chrono::steady_clock;

// True when the guest is gone, or stays as a stopped one (on_poweroff = "preserve").
int ended(const Context& c, const std::string& guest, bool& done) {
    Json r;
    if (const int e = ask(c, "list", Json::object(), r); e != kOk) return e;
    done = true;
    for (const auto& g : r["guests"])
        if (g.value("name", "") == guest)
            done = g.value("state", "") == "stopped" || g.value("state", "") == "crashed";
    return kOk;
}

}  // namespace

int shutdown(const Context& c, const std::string& guest, const PowerArgs& a) {
    Json r;
    if (const int e = ask_guest(c, guest, "shutdown", Json::object(), r); e != kOk) return e;
    if (!a.wait) return kOk;
    for (const auto end = Clock::now() + std::chrono::seconds(a.timeout); Clock::now() < end;) {
        bool done = false;
        if (const int e = ended(c, guest, done); e != kOk || done) return e;
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    return complain(
        {"timeout",
         {guest + " has not shut down within " + std::to_string(a.timeout) + " s of its button's press",
          "look at proa console " + guest + "; proa destroy " + guest + " ends it at once"}});
}

int reboot(const Context& c, const std::string& guest, const PowerArgs& a) {
    Json r;
    return ask_guest(c, guest, "reboot", {{"force", a.force}}, r);
}

}  // namespace proa::vmm::cli
