// Protection as text. Pure: JSON from proad in, what the terminal shows out. What is missing shows as "-", not as zero.
#include <algorithm>
#include <ctime>

#include "vmm/cli/print.hpp"
#include "vmm/cli/protect.hpp"

namespace proa::vmm::cli {
namespace {

constexpr int kWidth = 30;
constexpr double kMega = 1048576;
constexpr std::uint64_t kWallClock =
    1'000'000'000'000;  // in ms: later than 2001, so no time since something began

std::string word(const Json& j, const char* key, const char* otherwise = "-") {
    const auto i = j.find(key);
    return i != j.end() && i->is_string() && !i->get_ref<const std::string&>().empty() ? i->get<std::string>()
                                                                                       : otherwise;
}

std::optional<double> number(const Json& j, const char* key) {
    const auto i = j.find(key);
    if (i == j.end() || !i->is_number()) return {};
    return i->get<double>();
}

std::string shown(const Json& j, const char* key, int digits) {
    const auto n = number(j, key);
    return n ? text("%.*f", digits, *n) : "-";
}

std::string held(const Json& g) {
    const auto packets = number(g, "held_packets"), bytes = number(g, "held_bytes");
    if (!packets) return "-";
    return text("%.0f", *packets) + (bytes && *bytes > 0 ? text(" (%.0f KiB)", *bytes / 1024) : "");
}

std::string when(const Json& event) {
    const double ms = number(event, "at_ms").value_or(0);
    if (ms < static_cast<double>(kWallClock)) return text("%10.3f s", ms / 1000);
    const auto whole = static_cast<std::int64_t>(ms);
    const std::time_t seconds = whole / 1000;
    std::tm t{};
    char b[32] = "";
    if (::gmtime_r(&seconds, &t) != nullptr) std::strftime(b, sizeof(b), "%F %T", &t);
    return text("%s.%03d", b, static_cast<int>(whole % 1000));
}

}  // namespace

std::string format_protecting(const Json& p) {
    const double percent = std::min(100.0, std::max(0.0, number(p, "percent").value_or(0)));
    const auto full = static_cast<std::size_t>(percent / 100 * kWidth);
    return "[" + std::string(full, '#') + std::string(kWidth - full, '.') + "]" +
           text(" %3.0f%%  %s", percent, word(p, "phase").c_str()) +
           text("  %.1f MB sent  ", number(p, "sent_bytes").value_or(0) / kMega) + word(p, "message", "");
}

std::string format_protection(const Json& guests) {
    std::string s = text("%-24s %-8s %-12s %-20s %10s %7s %15s %7s %s\n", "NAME", "ROLE", "STATE", "PEER",
                         "EPOCH", "RATE/s", "PAUSE ms", "LAG ms", "HELD");
    for (const auto& g : guests)
        s += text("%-24s %-8s %-12s %-20s %10s %7s %15s %7s %s\n", word(g, "name").c_str(),
                  word(g, "role").c_str(), word(g, "state").c_str(), word(g, "peer").c_str(),
                  shown(g, "epoch", 0).c_str(), shown(g, "checkpoints_per_s", 1).c_str(),
                  (shown(g, "pause_ms_p50", 1) + "/" + shown(g, "pause_ms_p99", 1)).c_str(),
                  shown(g, "lag_ms", 0).c_str(), held(g).c_str());
    return s;
}

std::string format_protection_details(const Json& g) {
    std::string s;
    if (const auto f = g.find("failover"); f != g.end() && f->is_object())
        s += "failover: detected after " + shown(*f, "detected_ms", 0) + " ms, key after " +
             shown(*f, "claimed_ms", 0) + " ms, running after " + shown(*f, "running_ms", 0) + " ms\n";
    if (const auto events = g.find("events"); events != g.end() && events->is_array())
        for (const auto& e : *events)
            if (e.is_object()) s += when(e) + "  " + word(e, "what") + "\n";
    return s;
}

}  // namespace proa::vmm::cli
