// The verbs that look: list, vcpu-list, info, top, dmesg.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "vmm/cli/print.hpp"
#include "vmm/cli/verbs.hpp"

namespace proa::vmm::cli {
namespace {

void show(const std::string& s) {
    std::fputs(s.c_str(), stdout);
    std::fflush(stdout);
}

int sample(const Context& c, Json& to) {
    Json guests, host;
    if (const int e = ask(c, "list", Json::object(), guests); e != kOk) return e;
    if (const int e = ask(c, "host", Json::object(), host); e != kOk) return e;
    to = {{"guests", guests["guests"]}, {"host", host}};
    return kOk;
}

}  // namespace

int list(const Context& c, const std::string& only, bool vcpus) {
    Json s;
    if (const int e = sample(c, s); e != kOk) return e;
    Json guests = Json::array();
    for (auto& g : s["guests"]) {
        if (!only.empty() && g.value("name", "") != only) continue;
        g["pcpus"] = s["host"].value("pcpus", 64u);
        guests.push_back(g);
    }
    if (!only.empty() && guests.empty())
        return complain(
            {"not-found", {"no guest named " + only + " on this host", "proa list shows what runs here"}});
    const double cntfrq = s["host"].value("cntfrq", 0.0);
    if (c.json)
        print_json(guests);
    else
        show(vcpus ? format_vcpus(guests, cntfrq) : format_list(guests, cntfrq));
    return kOk;
}

int info(const Context& c, const std::string& guest) {
    Json r;
    const int e =
        guest.empty() ? ask(c, "host", Json::object(), r) : ask_guest(c, guest, "info", Json::object(), r);
    if (e != kOk) return e;
    if (c.json)
        print_json(r);
    else
        show(format_facts(r));
    return kOk;
}

int top(const Context& c, unsigned seconds, unsigned rounds, bool vcpus) {
    Json before, now;
    if (const int e = sample(c, before); e != kOk) return e;
    for (unsigned i = 0; rounds == 0 || i < rounds; ++i) {
        std::this_thread::sleep_for(std::chrono::seconds(seconds));
        if (const int e = sample(c, now); e != kOk) return e;
        const Json u = usage(before, now);
        if (c.json)
            print_json(u);
        else
            show((::isatty(1) != 0 ? "\x1b[H\x1b[2J" : "") + format_usage(u, vcpus));
        before = std::move(now);
    }
    return kOk;
}

int dmesg(const Context& c, bool clear, bool follow) {
    Json args = Json::object();
    if (clear) args["clear"] = true;
    for (;;) {
        Json r;
        if (const int e = ask(c, "dmesg", args, r); e != kOk) return e;
        const std::string text = r.value("text", "");
        if (c.json && !text.empty())
            print_json(r);
        else if (!c.json)
            show(text);
        if (!follow) return kOk;
        args = {{"since", r.value("next", 0ull)}};
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
}

}  // namespace proa::vmm::cli
