// `proa migrate`: a progress bar while it runs, a summary when it is done.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "vmm/cli/verbs.hpp"

namespace proa::vmm::cli {
namespace {

constexpr int kWidth = 30;

void draw(const Json& p) {
    const double percent = p.value("percent", 0.0);
    const int full = static_cast<int>(percent / 100 * kWidth);
    const std::string bar = std::string(static_cast<std::size_t>(full), '#') +
                            std::string(static_cast<std::size_t>(kWidth - full), '.');
    char left[32] = "";
    if (p.contains("eta_ms")) std::snprintf(left, sizeof(left), "%.1f s left", p["eta_ms"].get<double>() / 1e3);
    std::fprintf(stderr, "\r[%s] %3.0f%%  round %u  %.1f MB sent  %.1f MB/s  dirty %.1f MB/s  %s  ",
                 bar.c_str(), percent, p.value("round", 0u) + 1,
                 static_cast<double>(p.value("sent_bytes", 0ull)) / 1048576, p.value("mb_per_s", 0.0),
                 p.value("dirty_mb_per_s", 0.0), left);
    if (const unsigned t = p.value("throttle", 0u); t != 0) std::fprintf(stderr, "throttled %u%%  ", t);
}

// The first Ctrl-C asks for the cancellation and lets the answer come (exit code 5, or 0 if it was too late); the second
// one leaves at once, and proad cancels because the command is gone.
void cancel_on_interrupt(const Context& c, const std::string& guest) {
    sigset_t interrupts;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &interrupts, nullptr);
    std::thread([=, socket = c.socket] {
        int which = 0;
        ::sigwait(&interrupts, &which);
        // sudo and timeout send a signal to the process and to its group: within a second it is the same Ctrl-C.
        const auto first = std::chrono::steady_clock::now();
        const auto pressed_again = [&](const timespec& within) {
            return ::sigtimedwait(&interrupts, nullptr, &within) == SIGINT &&
                   std::chrono::steady_clock::now() - first > std::chrono::seconds(1);
        };
        std::fprintf(stderr, "\nproa: cancelling; %s stays here\n", guest.c_str());
        const Json cancel{{"guest", guest}, {"cmd", "migrate-cancel"}, {"args", Json::object()}};
        // Refused while the hosts still talk about whether it may move at all: said again.
        bool asked = false;
        do asked = asked || call(socket, "guest", cancel).has_value();
        while (!pressed_again({0, 200'000'000}));
        ::_exit(130);
    }).detach();
}

}  // namespace

int migrate(const Context& c, const Json& request, bool show_progress) {
    cancel_on_interrupt(c, request.at("guest").get<std::string>());
    bool drew = false;
    Json done;
    const int e = ask(c, "migrate", request, done, [&](const Json& p) {
        if (!show_progress) return;
        if (c.json) {
            print_json(p);
        } else {
            draw(p);
            drew = true;
        }
    });
    if (drew) std::fprintf(stderr, "\n");
    if (e != kOk) return e;
    if (c.json) {
        print_json(done);
        return kOk;
    }
    std::uint64_t pages = 0, zero = 0;
    for (const auto& r : done.value("rounds", Json::array()))
        pages += r.value("pages", 0ull), zero += r.value("zero", 0ull);
    std::printf(
        "%s moved to %s: %zu rounds, %llu pages (%llu zero), %.1f MB sent, %.1f s in all, downtime %.0f ms\n",
        request.at("guest").get<std::string>().c_str(), request.at("host").get<std::string>().c_str(),
        done["rounds"].size(), static_cast<unsigned long long>(pages), static_cast<unsigned long long>(zero),
        static_cast<double>(done.value("wire_bytes", 0ull)) / 1048576,
        static_cast<double>(done.value("total_ms", 0ull)) / 1e3, done.value("downtime_ms", 0.0));
    if (const Json d = done.value("downtime", Json::object()); show_progress && !d.empty())
        std::printf("  downtime: freeze %.1f, state %.1f, last pages %.1f, ready %.1f, start %.1f ms\n",
                    d.value("freeze_ms", 0.0), d.value("state_ms", 0.0), d.value("last_pages_ms", 0.0),
                    d.value("ready_ms", 0.0), d.value("start_ms", 0.0));
    if (const std::string note = done.value("note", ""); !note.empty()) std::printf("  %s\n", note.c_str());
    return kOk;
}

}  // namespace proa::vmm::cli
