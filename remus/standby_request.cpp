#include "remus/standby_request.hpp"

#include <algorithm>
#include <charconv>

#include "migrate/stream.hpp"

namespace proa::remus {
namespace {

using vmm::Error;
using vmm::fail;
using vmm::Json;

constexpr const char* kEtcd = "etcd://";
constexpr std::size_t kMostDisks = 32;  // as HelloRecord's
constexpr std::size_t kLongestPath = 1024;
constexpr double kLargestOption = 1e9;

bool number(const std::string& text, std::uint64_t& to) {
    const auto r = std::from_chars(text.data(), text.data() + text.size(), to);
    return !text.empty() && r.ec == std::errc() && r.ptr == text.data() + text.size();
}

struct Member {
    std::string host, port;  // host in lower case, an IPv6 address with its brackets
    auto operator<=>(const Member&) const = default;
};

// Sorted; nothing if `spec` is no list of etcd members.
std::optional<std::vector<Member>> members_of(const std::string& spec) {
    if (spec.rfind(kEtcd, 0) != 0) return {};
    std::vector<Member> members;
    for (std::size_t at = std::string(kEtcd).size(); at <= spec.size();) {
        const std::size_t end = std::min(spec.find(',', at), spec.size());
        const std::string one = spec.substr(at, end - at);
        at = end + 1;
        const bool bracketed = !one.empty() && one[0] == '[';
        const std::size_t close = bracketed ? one.find(']') : std::string::npos,
                          colon = bracketed ? (close == std::string::npos ? close : close + 1) : one.find(':');
        std::uint64_t port = 0;
        if (colon == std::string::npos || colon >= one.size() || one[colon] != ':' ||
            !number(one.substr(colon + 1), port) || port == 0 || port > 65535)
            return {};
        Member m{one.substr(0, colon), std::to_string(port)};
        const std::string bare = bracketed ? m.host.substr(1, m.host.size() - 2) : m.host;
        const std::string allowed = bracketed ? "0123456789abcdefABCDEF:." : "";
        for (char& c : m.host) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        for (const char c : bare) {
            const bool name = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                              c == '-' || c == '.' || c == '_';
            if (bracketed ? allowed.find(c) == std::string::npos : !name) return {};
        }
        if (bare.empty()) return {};
        members.push_back(std::move(m));
    }
    std::sort(members.begin(), members.end());
    return members;
}

// The host itself, whichever host that is: the two of a pair would mean two witnesses by it.
bool is_loopback(const Member& m) {
    return m.host == "localhost" || m.host.rfind("127.", 0) == 0 || m.host == "[::1]";
}

Json channel(const vmm::DaemonOptions& o) {
    return {{"keys", o.keys},       {"plaintext", o.plaintext},           {"listen", o.listen},
            {"witness", o.witness}, {"witness_unsafe", o.witness_unsafe}, {"this_host", o.name}};
}

bool is_clean_path(const std::string& path) {
    return !path.empty() && path.size() <= kLongestPath && path[0] == '/' && path.back() != ' ' &&
           std::none_of(path.begin(), path.end(), [](unsigned char c) {
               return c < 0x20 || c == 0x7f || c == '\'' || c == '"' || c == ',';
           });
}

// "virtio3:block" is the guest's fourth device, and disks come first.
vmm::Result<ReplicatedDisk> read_disk(const Json& j, const vmm::GuestConfig& config) {
    const Json& size = j.at("size");
    const bool whole = size.is_number_integer() && size.get<std::int64_t>() > 0;
    ReplicatedDisk d{j.at("name"), j.at("path"), whole ? size.get<std::uint64_t>() : 0, 0, ""};
    const std::string front = "virtio", back = ":block";
    std::uint64_t index = 0;
    if (d.name.rfind(front, 0) != 0 || d.name.size() <= front.size() + back.size() ||
        d.name.compare(d.name.size() - back.size(), back.size(), back) != 0 ||
        !number(d.name.substr(front.size(), d.name.size() - front.size() - back.size()), index) ||
        index >= config.disks.size())
        return fail("the guest has no disk '" + d.name + "'", "proa info GUEST shows its disks");
    d.index = index;
    d.at_primary = config.disks[index].path;
    if (config.disks[index].read_only)
        return fail("disk " + config.disks[index].path + " is read-only: it isn't replicated",
                    "leave it out, and have the same disk on both hosts");
    if (!is_clean_path(d.path))
        return fail("the replica of " + d.name + " must have an absolute path without quotes and commas",
                    "choose another one: --disk NAME=PATH");
    if (d.size == 0 || d.size % 512 != 0) return fail("disk " + d.name + " has no size that a disk can have");
    return d;
}

vmm::Result<std::vector<ReplicatedDisk>> read_disks(const Json& list, const vmm::GuestConfig& config) {
    if (!list.is_array() || list.size() > kMostDisks) return fail("malformed list of disks");
    std::vector<ReplicatedDisk> disks;
    for (const auto& j : list) {
        auto d = read_disk(j, config);
        if (!d) return tl::unexpected(d.error());
        for (const auto& other : disks)
            if (other.index == d->index || other.path == d->path)
                return fail("disk " + d->name + " or its replica " + d->path + " is named twice",
                            "each disk has one replica, and each replica one disk");
        disks.push_back(std::move(*d));
    }
    for (std::size_t i = 0; i < config.disks.size(); ++i)
        if (!config.disks[i].read_only &&
            std::none_of(disks.begin(), disks.end(), [i](const auto& d) { return d.index == i; }))
            return fail("disk " + config.disks[i].path +
                            " is writable and not replicated: after a failover it "
                            "would be newer than the guest's memory",
                        "replicate it too (--disk), or make it read-only");
    return disks;
}

// The config's disks with the replicas' paths, as a setting that is put after the config's text.
vmm::Result<void> use_replicas(StandbyRequest& r) {
    auto wanted = r.config.disks;
    for (const auto& d : r.disks) wanted[d.index].path = d.path;
    const auto same = [](const auto& a, const auto& b) {
        return a.path == b.path && a.read_only == b.read_only;
    };
    const auto differs = [&](const auto& disks) {
        return !std::equal(disks.begin(), disks.end(), wanted.begin(), wanted.end(), same);
    };
    if (!differs(r.config.disks)) return {};
    std::string list;
    for (const auto& d : wanted)
        list += (list.empty() ? "" : ", ") + ("'target=" + d.path + ",format=raw,vdev=" + d.device +
                                              ",access=" + (d.read_only ? "r" : "rw") + "'");
    r.overrides = {"disk = [ " + list + " ]"};
    auto config = vmm::parse_config(r.guest.at("config"), "protected config", r.overrides);
    if (!config || differs(config->disks))
        return fail("the guest's disks can't be renamed in its config",
                    "use the same paths on both hosts, or simpler ones");
    r.config = std::move(*config);
    return {};
}

vmm::Result<void> check_witness(const Json& request, const vmm::DaemonOptions& here) {
    if (here.witness.empty())
        return fail("no witness is configured there", "start its proad with the --witness of this host's");
    const std::string theirs = request.at("witness");
    if (!same_witness(theirs, here.witness))
        return fail("its witness is " + here.witness + ", the primary's is " + theirs,
                    "give both proads the same --witness");
    return {};
}

// How to protect the guest again after a failover, with the roles swapped: its proa-vm acts on this alone and long after,
// so that nothing unexpected may be left in it.
vmm::Result<Json> read_options(const Json& given, const StandbyRequest& r, const vmm::DaemonOptions& here) {
    static constexpr std::pair<const char*, bool> kKnown[] = {
        // and whether it is a number
        {"interval_ms", true},        {"max_lag_ms", true},
        {"max_overhead", true},       {"ttl_ms", true},
        {"ack_timeout_ms", true},     {"adaptive", false},
        {"no_network_buffer", false}, {"auto_reprotect", false}};
    if (!given.is_object()) return fail("malformed options");
    Json options = Json::object();
    for (const auto& [key, is_number] : kKnown) {
        const auto i = given.find(key);
        if (i == given.end()) continue;
        if (is_number ? !i->is_number() || !(i->get<double>() >= 0 && i->get<double>() <= kLargestOption)
                      : !i->is_boolean())
            return fail(std::string("malformed option ") + key);
        options[key] = *i;
    }
    if (given.value("this_host", "") == here.name)
        return fail("both hosts call themselves " + here.name, "start one proad with another --name");
    const auto port = given.value("this_port", Json(here.port));
    if (!port.is_number_integer() || port.get<std::int64_t>() <= 0 || port.get<std::int64_t>() > 65535)
        return fail("malformed option this_port");
    options["peer_port"] = port;
    if (!r.overrides.empty()) {
        options["disks"] = Json::array();
        for (const auto& d : r.disks) options["disks"].push_back({{"name", d.name}, {"path", d.at_primary}});
    }
    return options;
}

std::string word(const Json& info, const char* key) {
    const auto i = info.find(key);
    return i != info.end() && i->is_string() ? i->get<std::string>() : std::string();
}

}  // namespace

std::optional<Error> complaint_about_witness(const std::string& spec, bool unsafe) {
    if (spec == "none" && !unsafe)
        return Error{
            "--witness none: when the hosts lose sight of each other, both may run the guest, and its disks "
            "part for good",
            "run etcd on a third host (--witness etcd://HOST:2379); if you can live with that: --witness none "
            "--unsafe"};
    if (spec != "none" && unsafe) return Error{"--unsafe goes with --witness none only", "leave it out"};
    if (spec.empty() || spec == "none") return {};
    const auto members = members_of(spec);
    if (!members)
        return Error{"--witness: '" + spec + "' is not etcd://HOST:PORT[,HOST:PORT...]",
                     "write for example --witness etcd://10.77.0.9:2379"};
    for (const auto& m : *members)
        if (is_loopback(m))
            return Error{"--witness: " + m.host + " is another machine on each host of the pair",
                         "name the witness by an address that both reach"};
    return {};
}

bool same_witness(const std::string& a, const std::string& b) {
    if (a == b) return true;
    const auto x = members_of(a), y = members_of(b);
    return x && y && *x == *y;
}

tl::expected<Json, vmm::CallError> protect_out_arguments(const Json& asked, bool auto_reprotect,
                                                         const vmm::DaemonOptions& here) {
    if (here.witness.empty())
        return tl::unexpected(vmm::CallError{
            "refused",
            {"this host has no witness: nobody could tell which host may run the guest when they lose sight of "
             "each other",
             "start proad with --witness etcd://HOST:PORT on both hosts (or, with a pair that may split, "
             "--witness none --unsafe)"}});
    Json a = channel(here);
    a.erase("listen");
    a["host"] = asked.at("host").get<std::string>();
    a["peer_port"] = asked.value("port", here.port);
    a["this_port"] = here.port;  // where the backup finds this host again after a failover
    a["plaintext"] = here.plaintext || asked.value("plaintext", false);
    a["interval_ms"] = asked.value("interval_ms", 25.0);
    a["adaptive"] = asked.value("adaptive", false);
    a["max_lag_ms"] = asked.value("max_lag_ms", 200.0);
    a["max_overhead"] = asked.value("max_overhead", 10.0);
    a["ack_timeout_ms"] = asked.value("ack_timeout_ms", 5000.0);
    a["no_network_buffer"] = asked.value("no_network_buffer", false);
    a["auto_reprotect"] = auto_reprotect || asked.value("auto_reprotect", false);
    if (const auto d = asked.find("disks"); d != asked.end()) a["disks"] = *d;
    return a;
}

vmm::Result<StandbyRequest> read_standby_request(const Json& request, const vmm::DaemonOptions& here) {
    if (auto w = check_witness(request, here); !w) return tl::unexpected(w.error());
    StandbyRequest r;
    r.guest = request.at("guest");
    r.name = r.guest.at("name");
    r.policy = r.guest.at("policy");
    r.session = request.at("session");
    migrate::Token token;
    if (!migrate::from_hex(r.session, token)) return fail("malformed session");
    auto config = vmm::parse_config(r.guest.at("config"), "protected config");
    if (!config || config->name != r.name) return fail("the guest's config isn't that of " + r.name);
    r.config = std::move(*config);
    auto disks = read_disks(request.at("disks"), r.config);
    if (!disks) return tl::unexpected(disks.error());
    r.disks = std::move(*disks);
    if (auto u = use_replicas(r); !u) return tl::unexpected(u.error());
    if (const auto t = request.find("term"); t != request.end()) {
        if (!t->is_number_unsigned()) return fail("malformed term");
        r.term = t->get<std::uint64_t>();
    }
    auto options = read_options(request.value("options", Json::object()), r, here);
    if (!options) return tl::unexpected(options.error());
    r.options = std::move(*options);
    return r;
}

Json protect_in_arguments(const StandbyRequest& r, const vmm::DaemonOptions& here,
                          const std::string& state_directory, const std::string& primary) {
    Json a = channel(here);
    a["token"] = r.session;
    a["state_directory"] = state_directory;
    a["disks"] = Json::array();
    for (const auto& d : r.disks) a["disks"].push_back({{"name", d.name}, {"path", d.path}, {"size", d.size}});
    a["options"] = r.options;
    a["primary_host"] = primary;
    if (r.term) a["term"] = *r.term;
    return a;
}

bool may_be_leaving(const Json& info) {
    const std::string state = word(info, "state"), protection = word(info, "protection");
    return state.empty() || state == "standby" || protection == "discarded" || protection == "left" ||
           protection == "superseded";
}

Error explain_name_taken(const std::string& name, const Json& info) {
    const std::string state = word(info, "state"), protection = word(info, "protection");
    if (state == "standby")
        return {name + " has a standby there already",
                "it ends when its primary unprotects the guest; if nobody feeds it: proa destroy " + name +
                    " there"};
    for (const char* over : {"fenced", "superseded", "left", "yielded", "discarded"})
        if (protection == over)
            return {"an old copy of " + name + " is still there (" + protection + ")",
                    "look at proa protect --status " + name +
                        " there; when the guest surely runs here: proa destroy " + name + " there"};
    if (state == "stopped" || state == "crashed" || state == "in-doubt")
        return {name + " is there already (" + state + ")", "proa destroy " + name + " there first"};
    return {"a guest named " + name + " runs there already", "rename or destroy it first"};
}

}  // namespace proa::remus
