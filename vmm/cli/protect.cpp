// The verbs of high availability.
#include "vmm/cli/protect.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "vmm/cli/interrupt.hpp"

namespace proa::vmm::cli {
namespace {

int done(const Context& c, const Json& result, const std::string& words) {
    if (c.json)
        print_json(result);
    else
        std::printf("%s\n", words.c_str());
    return kOk;
}

}  // namespace

int protect(const Context& c, const ProtectArgs& a, bool show_progress) {
    const auto request = protect_request(a);
    if (!request) return complain({"invalid", request.error()});
    // A sync that is given up and one that has just been finished are the same to proa-vm: unprotect.
    const auto interrupted =
        cancel_on_interrupt(c, {a.guest, "unprotect", a.guest + " goes on here, unprotected"});
    bool drew = false;
    Json result;
    const int e = ask(c, "protect", *request, result, [&](const Json& p) {
        if (!show_progress || !p.is_object()) return;
        if (c.json) return print_json(p);
        std::fprintf(stderr, "\r%s\x1b[K", format_protecting(p).c_str());
        drew = true;
    });
    if (drew) std::fprintf(stderr, "\n");
    if (e != kOk) return e;
    if (*interrupted) {  // it was pressed at the last moment: what it promised holds all the same
        (void)call(c.socket, "guest", {{"guest", a.guest}, {"cmd", "unprotect"}, {"args", Json::object()}});
        return complain({"cancelled", {"cancelled", ""}});
    }
    return done(c, result, a.guest + " is protected by " + a.host);
}

int protect_status(const Context& c, const ProtectArgs& a) {
    const Json args = a.guest.empty() ? Json::object() : Json{{"guest", a.guest}};
    for (unsigned i = 1;; ++i) {
        Json r;
        if (const int e = ask(c, "protect-status", args, r); e != kOk) return e;
        if (c.json) {
            print_json(r);
        } else {
            const Json guests = r.value("guests", Json::array());
            std::string s = a.watch > 0 && ::isatty(1) != 0 ? "\x1b[H\x1b[2J" : "";
            s += format_protection(guests);
            if (!a.guest.empty() && !guests.empty()) s += format_protection_details(guests.front());
            std::fputs(s.c_str(), stdout);
            std::fflush(stdout);
        }
        if (a.watch <= 0 || i == a.rounds) return kOk;
        std::this_thread::sleep_for(std::chrono::duration<double>(a.watch));
    }
}

int unprotect(const Context& c, const std::string& guest) {
    Json r;
    if (const int e = ask(c, "unprotect", {{"guest", guest}}, r); e != kOk) return e;
    return done(c, r, guest + " goes on here, unprotected");
}

int failover(const Context& c, const std::string& guest) {
    Json r;
    if (const int e = ask(c, "failover", {{"guest", guest}}, r); e != kOk) return e;
    return done(c, r, guest + " runs at its backup now, unprotected");
}

}  // namespace proa::vmm::cli
