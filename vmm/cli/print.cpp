#include "vmm/cli/print.hpp"

#include <cstdarg>
#include <cstdio>
#include <map>

namespace proa::vmm::cli {

std::string text(const char* format, ...) {
    char b[512];
    va_list list;
    va_start(list, format);
    std::vsnprintf(b, sizeof(b), format, list);
    va_end(list);
    return b;
}

namespace {

double seconds(const Json& j, double cntfrq) {
    return cntfrq > 0 ? static_cast<double>(j.value("run_ticks", 0ull)) / cntfrq : 0.0;
}

std::string name_of(const Json& j) {
    return j.value("name", "");
}

std::string scalar(const Json& v) {
    return v.is_string() ? v.get<std::string>() : v.dump();
}

std::string pairs(const Json& object) {
    std::string s;
    for (const auto& [k, v] : object.items()) s += (s.empty() ? "" : "  ") + k + "=" + scalar(v);
    return s;
}

// Percent of one CPU: what ran between two samples, of the time between them.
double percent(const Json& before, const Json& now, const char* key, double ticks) {
    const auto a = before.value(key, 0ull), b = now.value(key, 0ull);
    return ticks > 0 && b > a ? 100.0 * static_cast<double>(b - a) / ticks : 0.0;
}

const Json* by_name(const Json& guests, const Json& like) {
    for (const auto& g : guests)
        if (g.value("name", "") == like.value("name", "") && g.value("pid", 0) == like.value("pid", 0))
            return &g;
    return nullptr;
}

}  // namespace

std::string state_letters(const Json& g) {
    const std::string state = g.value("state", "");
    std::string s = "------";
    bool running = false, all_blocked = true;
    for (const auto& v : g.value("vcpu_list", Json::array())) {
        const std::string one = v.value("state", "");
        running = running || one == "running" || one == "exit";
        all_blocked = all_blocked && (one == "blocked" || one == "off");
    }
    if (state == "running" || state == "migrating") {
        if (running) s[0] = 'r';
        if (!running && all_blocked) s[1] = 'b';
    }
    if (state == "paused" || state == "created" || state == "incoming" || state == "in-doubt") s[2] = 'p';
    if (state == "standby") s[2] = 'w';
    if (state == "stopped") s[3] = 's';
    if (state == "crashed") s[4] = 'c';
    if (state == "unresponsive") s[5] = 'd';
    return s;
}

std::string format_list(const Json& guests, double cntfrq) {
    std::string s = text("%-40s %5s %5s %5s     %-6s  %8s\n", "Name", "ID", "Mem", "VCPUs", "State", "Time(s)");
    for (const auto& g : guests)
        s += text("%-40s %5u %5llu %5u     %s  %8.1f\n", name_of(g).c_str(), g.value("slot", 0u),
                  static_cast<unsigned long long>(g.value("memory_mib", 0ull)), g.value("vcpus", 0u),
                  state_letters(g).c_str(), seconds(g, cntfrq));
    return s;
}

std::string format_cpu_list(std::uint64_t mask, unsigned pcpus) {
    const std::uint64_t all = pcpus >= 64 ? ~0ull : (1ull << pcpus) - 1;
    if ((mask & all) == all) return "all";
    std::string s;
    for (unsigned i = 0; i < pcpus; ++i) {
        if ((mask >> i & 1) == 0) continue;
        unsigned end = i;
        while (end + 1 < pcpus && (mask >> (end + 1) & 1) != 0) ++end;
        s += (s.empty() ? "" : ",") + std::to_string(i) + (end > i ? "-" + std::to_string(end) : "");
        i = end;
    }
    return s;
}

std::string format_vcpus(const Json& guests, double cntfrq) {
    std::string s =
        text("%-32s %5s %5s %5s %9s %9s  %s\n", "Name", "ID", "VCPU", "CPU", "State", "Time(s)", "Affinity");
    for (const auto& g : guests)
        for (const auto& v : g.value("vcpu_list", Json::array()))
            s +=
                text("%-32s %5u %5u %5u %9s %9.1f  %s\n", name_of(g).c_str(), g.value("slot", 0u),
                     v.value("vcpu", 0u), v.value("pcpu", 0u), v.value("state", "").c_str(), seconds(v, cntfrq),
                     format_cpu_list(v.value("affinity", 0ull), g.value("pcpus", 64u)).c_str());
    return s;
}

std::string format_facts(const Json& facts) {
    std::string s;
    for (const auto& [k, v] : facts.items()) {
        const bool list = v.is_array() && !v.empty() && v[0].is_object();
        if (!list)
            s += text("%-16s ", k.c_str()) +
                 (v.is_object()               ? pairs(v)
                  : v.is_array() && v.empty() ? "-"
                                              : scalar(v)) +
                 "\n";
        for (std::size_t i = 0; list && i < v.size(); ++i)
            s += text("%-16s ", (k + "[" + std::to_string(i) + "]").c_str()) + pairs(v[i]) + "\n";
    }
    return s;
}

Json usage(const Json& before, const Json& now) {
    const Json& host = now.at("host");
    const double cntfrq = host.value("cntfrq", 0.0);
    const double ticks = (host.value("uptime_s", 0.0) - before.at("host").value("uptime_s", 0.0)) * cntfrq;
    double busy = 0;
    const Json none = Json::object(), cpus = host.value("cpus", Json::array()),
               old_cpus = before.at("host").value("cpus", Json::array());
    for (std::size_t i = 0; i < cpus.size() && i < old_cpus.size(); ++i)
        busy += percent(old_cpus[i], cpus[i], "busy_ticks", ticks);
    Json guests = Json::array();
    for (const auto& g : now.at("guests")) {
        const Json* match = by_name(before.at("guests"), g);
        const Json& old = match != nullptr ? *match : g;  // one that came meanwhile has no past to compare with
        Json row{{"name", name_of(g)},
                 {"slot", g.value("slot", 0u)},
                 {"state", g.value("state", "")},
                 {"letters", state_letters(g)},
                 {"memory_mib", g.value("memory_mib", 0ull)},
                 {"cpu_percent", percent(old, g, "run_ticks", ticks)},
                 {"seconds", seconds(g, cntfrq)}};
        const Json list = g.value("vcpu_list", Json::array()), old_list = old.value("vcpu_list", Json::array());
        row["vcpu_list"] = Json::array();
        for (std::size_t i = 0; i < list.size(); ++i)
            row["vcpu_list"].push_back({{"vcpu", i},
                                        {"pcpu", list[i].value("pcpu", 0u)},
                                        {"state", list[i].value("state", "")},
                                        {"cpu_percent", percent(i < old_list.size() ? old_list[i] : none,
                                                                list[i], "run_ticks", ticks)}});
        guests.push_back(std::move(row));
    }
    return {{"seconds", cntfrq > 0 ? ticks / cntfrq : 0.0},
            {"pcpus", cpus.size()},
            {"busy_percent", cpus.empty() ? 0.0 : busy / static_cast<double>(cpus.size())},
            {"guests", guests}};
}

std::string format_usage(const Json& u, bool vcpus) {
    std::string s = text("%u CPUs %.1f%% busy, %zu guests\n", u.value("pcpus", 0u),
                         u.value("busy_percent", 0.0), u.at("guests").size());
    s += text("%-40s %5s %5s  %-6s %6s %9s\n", "Name", "ID", "Mem", "State", "CPU%", "Time(s)");
    for (const auto& g : u.at("guests")) {
        s += text("%-40s %5u %5llu  %s %6.1f %9.1f\n", name_of(g).c_str(), g.value("slot", 0u),
                  static_cast<unsigned long long>(g.value("memory_mib", 0ull)), g.value("letters", "").c_str(),
                  g.value("cpu_percent", 0.0), g.value("seconds", 0.0));
        if (!vcpus) continue;
        for (const auto& v : g.at("vcpu_list"))
            s += text("    vCPU %-3u on CPU %-3u %-10s %27s %6.1f\n", v.value("vcpu", 0u), v.value("pcpu", 0u),
                      v.value("state", "").c_str(), "", v.value("cpu_percent", 0.0));
    }
    return s;
}

}  // namespace proa::vmm::cli
