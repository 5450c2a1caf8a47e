#include "vmm/config/guest_config.hpp"

#include <cctype>
#include <charconv>
#include <cstdio>
#include <set>

namespace proa::vmm {
namespace {

std::vector<std::string> split(const std::string& s, char by) {
    std::vector<std::string> out{""};
    for (const char c : s)
        if (c == by)
            out.emplace_back();
        else
            out.back() += c;
    for (auto& p : out) {
        p.erase(0, p.find_first_not_of(" \t"));
        p.erase(p.find_last_not_of(" \t") + 1);
    }
    return out;
}

bool is_unicast_mac(const std::string& s) {
    constexpr std::size_t kLength = 17;  // six pairs of digits, five colons
    if (s.size() != kLength) return false;
    for (std::size_t i = 0; i < kLength; ++i) {
        const auto c = static_cast<unsigned char>(s[i]);
        if (i % 3 == 2 ? c != ':' : std::isxdigit(c) == 0) return false;
    }
    return (std::stoi(s.substr(0, 2), nullptr, 16) & 1) == 0;
}

// Each word that begins as a Xen disk's name does (xvda) becomes the virtio disk's (vda).
bool replace_xvd(std::string& s) {
    const auto word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
    bool replaced = false;
    for (std::size_t i = 0; (i = s.find("xvd", i)) != std::string::npos; ++i) {
        if ((i != 0 && word(s[i - 1])) || i + 3 >= s.size() || s[i + 3] < 'a' || s[i + 3] > 'z') continue;
        s.erase(i, 1);
        replaced = true;
    }
    return replaced;
}

constexpr unsigned kCommandLine = ~0u;  // the "line" of a setting that is none of the file's

class Schema {
  public:
    Schema(std::map<std::string, CfgValue> values, std::string file, GuestConfig& out)
        : values_(std::move(values)), file_(std::move(file)), out_(out) {}

    Result<void> apply() {
        text("name", out_.name);
        text("kernel", out_.kernel);
        text("ramdisk", out_.ramdisk);
        std::string root, cmdline;
        text("extra", out_.extra);
        text("cmdline", cmdline);
        text("root", root);
        if (!cmdline.empty()) out_.extra = cmdline;
        if (!root.empty()) out_.extra = "root=" + root + " " + out_.extra;
        std::int64_t n = 0;
        if (number("memory", n, 16, 61 * 1024)) out_.memory_mib = static_cast<std::uint64_t>(n + (n & 1));
        if (number("vcpus", n, 1, 8)) out_.vcpus = static_cast<unsigned>(n);
        if (number("cpu_weight", n, 1, 65535)) out_.weight = static_cast<unsigned>(n);
        if (number("maxmem", n, 1, 1 << 30) && static_cast<std::uint64_t>(n) != out_.memory_mib)
            note("maxmem", "there is no ballooning; memory stays as `memory` says");
        if (number("maxvcpus", n, 1, 1024) && static_cast<unsigned>(n) != out_.vcpus)
            note("maxvcpus", "vCPUs are not hot-plugged; `vcpus` counts");
        if (number("auto_reprotect", n, 0, 1)) out_.auto_reprotect = n != 0;
        cpus();
        list("disk", [&](const std::string& s, unsigned line) { disk(s, line); });
        list("vif", [&](const std::string& s, unsigned line) { vif(s, line); });
        action("on_poweroff", out_.on_poweroff);
        action("on_reboot", out_.on_reboot);
        action("on_crash", out_.on_crash);
        for (const char* k : {"type", "builder", "uuid", "serial", "vfb", "console", "localtime", "on_watchdog",
                              "bootloader", "device_model_version"})
            if (take(k) != nullptr) note(k, "is accepted and has no effect");
        for (const auto& [key, v] : values_)
            if (seen_.count(key) == 0)
                out_.warnings.push_back(at(v.line) + "unknown key `" + key + "` is ignored");
        if (error_.what.empty() && out_.name.empty()) error(0, "name", "is missing", "add  name = \"...\"");
        if (error_.what.empty() && out_.kernel.empty())
            error(0, "kernel", "is missing", "add  kernel = \"/path/to/Image\"");
        map_xen_names();
        if (!error_.what.empty()) return tl::unexpected(error_);
        return {};
    }

  private:
    std::string at(unsigned line) const {
        if (line == kCommandLine) return "command line: ";
        return file_ + (line != 0 ? ":" + std::to_string(line) : "") + ": ";
    }
    void error(unsigned line, const std::string& key, const std::string& what, const std::string& remedy) {
        if (error_.what.empty()) error_ = {at(line) + key + ": " + what, remedy};
    }
    const CfgValue* take(const std::string& key) {
        seen_.insert(key);
        const auto i = values_.find(key);
        return i == values_.end() ? nullptr : &i->second;
    }
    void note(const std::string& key, const std::string& what) {
        out_.warnings.push_back(at(values_[key].line) + key + ": " + what);
    }
    void text(const char* key, std::string& to) {
        const CfgValue* v = take(key);
        if (v == nullptr) return;
        if (const auto* s = std::get_if<std::string>(&v->value))
            to = *s;
        else
            error(v->line, key, "must be a quoted string", std::string("write  ") + key + " = \"...\"");
    }
    bool number(const char* key, std::int64_t& to, std::int64_t least, std::int64_t most) {
        const CfgValue* v = take(key);
        if (v == nullptr) return false;
        const auto* n = std::get_if<std::int64_t>(&v->value);
        std::int64_t parsed = 0;
        if (const auto* s = std::get_if<std::string>(&v->value); s != nullptr && !s->empty()) {
            const auto r = std::from_chars(s->data(), s->data() + s->size(), parsed);
            if (r.ec == std::errc() && r.ptr == s->data() + s->size()) n = &parsed;
        }
        if (n == nullptr || *n < least || *n > most) {
            error(v->line, key,
                  "must be a number from " + std::to_string(least) + " to " + std::to_string(most),
                  std::string("correct `") + key + "`");
            return false;
        }
        to = *n;
        return true;
    }
    template <class F>
    void list(const char* key, F&& each) {
        const CfgValue* v = take(key);
        if (v == nullptr) return;
        if (const auto* l = std::get_if<std::vector<std::string>>(&v->value))
            for (const auto& s : *l) each(s, v->line);
        else
            error(v->line, key, "must be a list", std::string("write  ") + key + " = [ '...' ]");
    }
    void cpus() {
        const CfgValue* v = take("cpus");
        if (v == nullptr) return;
        std::string s;
        if (const auto* t = std::get_if<std::string>(&v->value)) s = *t;
        if (const auto* n = std::get_if<std::int64_t>(&v->value)) s = std::to_string(*n);
        if (const auto* l = std::get_if<std::vector<std::string>>(&v->value))
            for (const auto& i : *l) s += (s.empty() ? "" : ",") + i;
        if (!parse_cpu_list(s, out_.pcpus))
            error(v->line, "cpus", "'" + s + "' is not a CPU list", "write  cpus = \"0-3,^1\"");
    }
    void action(const char* key, OnEnd& to) {
        const CfgValue* v = take(key);
        if (v == nullptr) return;
        const auto* s = std::get_if<std::string>(&v->value);
        if (s != nullptr && *s == "destroy") {
            to = OnEnd::Destroy;
        } else if (s != nullptr && (*s == "restart" || *s == "rename-restart")) {
            to = OnEnd::Restart;
        } else if (s != nullptr && *s == "preserve") {
            to = OnEnd::Preserve;
        } else if (s != nullptr && s->rfind("coredump-", 0) == 0) {
            to = *s == "coredump-restart" ? OnEnd::Restart : OnEnd::Destroy;
            note(key, "core dumps are not written; taken as " + s->substr(9));
        } else {
            error(v->line, key, "must be destroy, restart, rename-restart, preserve or coredump-*",
                  "correct it");
        }
    }
    // xl-disk-configuration(5): "target, format, vdev, access" positionally or by key; phy:, file: and tap prefixes.
    void disk(const std::string& spec, unsigned line) {
        DiskConfig d;
        std::string format = "raw", access = "rw";
        unsigned position = 0;
        std::vector<std::string> parts = split(spec, ',');
        bool prefixed = false;
        for (const char* p : {"phy:", "file:"})
            if (parts[0].rfind(p, 0) == 0) {
                parts[0].erase(0, std::string(p).size());
                prefixed = true;
            }
        if (parts[0].rfind("tap", 0) == 0 && parts[0].find(':') != std::string::npos)
            return error(line, "disk", "tap disks are not supported ('" + spec + "')",
                         "use a raw file or a block device");
        for (const auto& p : parts) {
            const auto eq = p.find('=');
            const std::string key = eq == std::string::npos ? "" : p.substr(0, eq),
                              value = eq == std::string::npos ? p : p.substr(eq + 1);
            if (key == "target")
                d.path = value;
            else if (key == "format")
                format = value;
            else if (key == "vdev")
                d.device = value;
            else if (key == "access")
                access = value;
            else if (!key.empty() && p[0] != '/')
                note("disk", "parameter '" + key + "' has no effect");
            else if (prefixed) {  // the old form: target, vdev, access
                (position == 0 ? d.path : position == 1 ? d.device : access) = p;
                ++position;
            } else {
                if (position == 0) d.path = p;
                if (position == 1 && !p.empty()) format = p;
                if (position == 2) d.device = p;
                if (position == 3) access = p;
                ++position;
            }
        }
        if (format != "raw")
            return error(line, "disk", "format '" + format + "' is not supported",
                         "convert it: qemu-img convert -O raw");
        if (access == "r" || access == "ro")
            d.read_only = true;
        else if (access != "w" && access != "rw")
            return error(line, "disk", "access '" + access + "' must be r or w", "correct it");
        if (d.path.empty())
            return error(line, "disk", "'" + spec + "' names no target",
                         "write  disk = [ 'phy:/dev/vg/lv,xvda,w' ]");
        out_.disks.push_back(d);
    }
    void vif(const std::string& spec, unsigned line) {
        VifConfig v;
        for (const auto& p : split(spec, ',')) {
            if (p.empty()) continue;
            const auto eq = p.find('=');
            const std::string key = p.substr(0, eq), value = eq == std::string::npos ? "" : p.substr(eq + 1);
            if (key == "mac") {
                if (!is_unicast_mac(value))
                    return error(line, "vif", "'" + value + "' is not a unicast MAC address",
                                 "write  mac=00:16:3e:xx:xx:xx");
                v.mac = value;
            } else if (key == "bridge") {
                v.bridge = value;
            } else if (key == "vifname") {
                v.name = value;
            } else {
                note("vif", "parameter '" + key + "' has no effect");
            }
        }
        out_.vifs.push_back(v);
    }
    // Disks are virtio here: Xen's xvdX is the guest's vdX, and hvc0 is the virtio console.
    void map_xen_names() {
        if (replace_xvd(out_.extra))
            out_.warnings.push_back(
                file_ + ": disks are virtio here: /dev/xvdX in the kernel's arguments became /dev/vdX");
    }

    std::map<std::string, CfgValue> values_;
    std::string file_;
    GuestConfig& out_;
    std::set<std::string> seen_;
    Error error_;
};

}  // namespace

bool parse_cpu_list(const std::string& text, std::uint64_t& mask) {
    if (text == "all") return mask = ~0ull, true;
    std::uint64_t set = 0;
    for (std::string p : split(text, ',')) {
        const bool not_these = !p.empty() && p[0] == '^';
        if (not_these) p.erase(0, 1);
        unsigned a = 0, b = 0;
        const char *s = p.data(), *e = p.data() + p.size();
        auto r = std::from_chars(s, e, a);
        if (p.empty() || r.ec != std::errc()) return false;
        b = a;
        if (r.ptr != e) {
            if (*r.ptr != '-') return false;
            r = std::from_chars(r.ptr + 1, e, b);
            if (r.ec != std::errc() || r.ptr != e) return false;
        }
        if (a > b || b > 63) return false;
        for (unsigned i = a; i <= b; ++i) set = not_these ? set & ~(1ull << i) : set | 1ull << i;
    }
    if (set == 0) return false;
    mask = set;
    return true;
}

std::vector<std::string> disk_paths(const GuestConfig& c) {
    std::vector<std::string> paths;
    for (const auto& d : c.disks) paths.push_back(d.path);
    return paths;
}

Result<GuestConfig> parse_config(const std::string& text, const std::string& file,
                                 const std::vector<std::string>& overrides) {
    auto values = parse_cfg(text, file);
    if (!values) return tl::unexpected(values.error());
    for (const auto& o : overrides) {
        auto more = parse_cfg(o, "command line");
        if (!more) return tl::unexpected(more.error());
        for (auto& [k, v] : *more) {
            v.line = kCommandLine;
            (*values)[k] = v;
        }
    }
    GuestConfig c;
    c.text = text;
    for (const auto& o : overrides) c.text += "\n" + o;
    if (auto r = Schema(std::move(*values), file, c).apply(); !r) return tl::unexpected(r.error());
    return c;
}

}  // namespace proa::vmm
