// From `proa protect`'s arguments to proad's.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "vmm/cli/protect.hpp"

namespace proa::vmm::cli {
namespace {

constexpr double kShortest = 5, kLongest = 10'000, kLongestLag = 60'000, kLeastPatience = 200;
constexpr double kShortestAdaptive = 25;
constexpr unsigned kVirtioSlots = 32;

tl::unexpected<Error> not_a_duration(const char* option, const std::string& text, const char* example) {
    return fail(std::string(option) + ": '" + text + "' is not a duration",
                std::string("write ") + option + " " + example);
}

Result<double> duration(const char* option, const std::string& text, double least, double most,
                        const char* example) {
    const auto ms = milliseconds(text);
    if (!ms) return not_a_duration(option, text, example);
    if (*ms < least || *ms > most)
        return fail(std::string(option) + ": " + text + " is out of range",
                    "from " + std::to_string(static_cast<int>(least)) + "ms to " +
                        std::to_string(static_cast<int>(most / 1000)) + "s");
    return *ms;
}

Result<Json> disks_of(const std::vector<std::string>& given) {
    Json disks = Json::array();
    for (const auto& d : given) {
        const auto eq = d.find('=');
        const std::string device = disk_device(d.substr(0, eq)),
                          path = eq == std::string::npos ? "" : d.substr(eq + 1);
        if (device.empty() || path.empty() || path[0] != '/')
            return fail("--disk: '" + d + "' is not NAME=PATH",
                        "name the disk as the guest does and give its replica's absolute path on the backup: "
                        "--disk vda=/dev/vg0/web");
        for (const auto& other : disks)
            if (other["name"] == device || other["path"] == path)
                return fail("--disk: '" + d + "' names a disk or a path for the second time",
                            "each disk has one replica, and each replica one disk");
        disks.push_back({{"name", device}, {"path", path}});
    }
    return disks;
}

}  // namespace

std::optional<double> milliseconds(const std::string& text) {
    double n = 0;
    const char *first = text.data(), *last = first + text.size();
    const auto r = std::from_chars(first, last, n, std::chars_format::fixed);
    if (r.ec != std::errc() || !std::isfinite(n) || std::signbit(n)) return {};
    const std::string unit(r.ptr, last);
    if (unit == "s") return n * 1000;
    if (unit.empty() || unit == "ms") return n;
    return {};
}

std::string disk_device(const std::string& name) {
    const std::string block = ":block", virtio = "virtio";
    unsigned n = 0;
    if (name.rfind(virtio, 0) == 0 && name.size() > virtio.size() + block.size() &&
        name.compare(name.size() - block.size(), block.size(), block) == 0) {
        const char *first = name.data() + virtio.size(), *last = name.data() + name.size() - block.size();
        const auto r = std::from_chars(first, last, n);
        return r.ec == std::errc() && r.ptr == last && n < kVirtioSlots ? virtio + std::to_string(n) + block
                                                                        : "";
    }
    // Linux counts vda ... vdz, vdaa ...
    const std::size_t prefix = name.rfind("xvd", 0) == 0 ? 3 : name.rfind("vd", 0) == 0 ? 2 : name.size();
    if (prefix == name.size() || name.size() > prefix + 2) return {};
    for (std::size_t i = prefix; i < name.size(); ++i) {
        if (name[i] < 'a' || name[i] > 'z') return {};
        n = n * 26 + static_cast<unsigned>(name[i] - 'a' + 1);
    }
    return n <= kVirtioSlots ? virtio + std::to_string(n - 1) + block : "";
}

Result<Json> protect_request(const ProtectArgs& a) {
    if (a.guest.empty()) return fail("which guest?", "proa protect GUEST HOST");
    if (a.host.empty()) return fail("where to? the backup host is missing", "proa protect GUEST HOST");
    if (a.no_network_buffer && !a.unsafe)
        return fail(
            "--no-network-buffer lets packets out before the backup has what they tell of: a failover may take "
            "back what a client has seen",
            "leave it out; or add --unsafe if the guest's clients can live with that");
    if (a.unsafe && !a.no_network_buffer)
        return fail("--unsafe goes with --no-network-buffer only",
                    "a pair without witness is said to proad: --witness none --unsafe");
    const bool adaptive = a.interval == "adaptive";
    const auto lag =
        duration("--max-lag", a.max_lag.empty() ? "200ms" : a.max_lag, kShortest, kLongestLag, "200ms");
    if (!lag) return tl::unexpected(lag.error());
    const auto interval =
        adaptive ? Result<double>(std::min(kShortestAdaptive, *lag))
                 : duration("--interval", a.interval, kShortest, kLongest, "25ms, 0.2s or adaptive");
    if (!interval) return tl::unexpected(interval.error());
    if (!a.max_lag.empty() && *lag < *interval)
        return fail("--max-lag is shorter than the interval: no checkpoint could keep it",
                    "raise --max-lag or shorten --interval");
    const auto patience = duration("--ack-timeout", a.ack_timeout, kLeastPatience, kLongestLag, "5s");
    if (!patience) return tl::unexpected(patience.error());
    auto disks = disks_of(a.disks);
    if (!disks) return disks;
    Json request{{"guest", a.guest},
                 {"host", a.host},
                 {"port", a.port},
                 {"plaintext", a.plaintext},
                 {"interval_ms", *interval},
                 {"adaptive", adaptive},
                 {"max_lag_ms", std::max(*lag, *interval)},
                 {"max_overhead", a.max_overhead},
                 {"ack_timeout_ms", *patience},
                 {"no_network_buffer", a.no_network_buffer},
                 {"auto_reprotect", a.auto_reprotect}};
    if (!disks->empty()) request["disks"] = std::move(*disks);
    return request;
}

}  // namespace proa::vmm::cli
