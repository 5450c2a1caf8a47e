// `proa migrate`: a progress bar while it runs, a summary when it is done.
#include <cstdio>
#include <string>

#include "vmm/cli/interrupt.hpp"
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

}  // namespace

int migrate(const Context& c, const Json& request, bool show_progress) {
    const std::string guest = request.at("guest");
    cancel_on_interrupt(c, {guest, "migrate-cancel", guest + " stays here"});
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
        guest.c_str(), request.at("host").get<std::string>().c_str(), done["rounds"].size(),
        static_cast<unsigned long long>(pages), static_cast<unsigned long long>(zero),
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
