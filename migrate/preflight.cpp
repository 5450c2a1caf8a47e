#include "migrate/preflight.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "migrate/stream.hpp"

namespace proa::migrate {

bool policy_from_hex(const std::string& hex, abi::CpuPolicy& p) {
    Bytes b;
    if (!from_hex(hex, b)) return false;
    const auto r = decode_policy(b);
    if (r) p = *r;
    return r.has_value();
}

std::uint64_t disk_size(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    struct stat st {};
    std::uint64_t bytes = 0;
    if (::fstat(fd, &st) == 0 && S_ISBLK(st.st_mode))
        ::ioctl(fd, BLKGETSIZE64, &bytes);
    else
        bytes = static_cast<std::uint64_t>(st.st_size);
    ::close(fd);
    return bytes;
}

vmm::Result<void> check_numbers(const vmm::Json& g) {
    const auto whole = [](const vmm::Json& in, const char* key) { return in.at(key).is_number_unsigned(); };
    bool good = whole(g, "stream_version") && whole(g, "memory_mib");
    for (const auto& d : g.value("disks", vmm::Json::array()))  // a standby's have no size here
        good = good && (!d.contains("size") || whole(d, "size"));
    if (!good) return vmm::fail("malformed request: a number in it is not whole");
    return {};
}

vmm::Result<void> preflight_host(vmm::Daemon& here, const vmm::Json& g) {
    if (auto r = check_numbers(g); !r) return r;
    const std::string name = g.at("name");
    if (g.at("stream_version").get<std::uint64_t>() != kStreamVersion)
        return vmm::fail("the hosts speak different migration streams",
                         "install the same version of proa on both");
    if (here.find(name) != nullptr)
        return vmm::fail("a guest named " + name + " runs there already", "rename or destroy it first");
    abi::CpuPolicy policy;
    Bytes bytes;
    if (!from_hex(g.at("policy").get<std::string>(), bytes)) return vmm::fail("malformed CPU policy");
    const auto shown = decode_policy(bytes);
    if (!shown) return vmm::fail("CPU policy: " + shown.error().what, shown.error().remedy);
    policy = *shown;
    if (auto r = here.host().check(policy); !r) return r;
    std::uint64_t free_pages = 0, reserved = 0;  // free counts those that are promised to another guest, too
    const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    std::ifstream(pool + "free_hugepages") >> free_pages;
    std::ifstream(pool + "resv_hugepages") >> reserved;
    free_pages -= std::min(free_pages, reserved);
    const std::uint64_t need = g.at("memory_mib").get<std::uint64_t>() / 2 + 1;
    if (free_pages < need)
        return vmm::fail("not enough huge pages: " + std::to_string(free_pages) + " free, " +
                             std::to_string(need) + " needed",
                         "raise /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages there");
    // The guest does not need them to move, but to reboot there.
    for (const auto& f : g.value("files", vmm::Json::array()))
        if (const std::string path = f; !path.empty() && ::access(path.c_str(), R_OK) != 0)
            return vmm::fail(path + " is not there: the guest's next reboot would fail",
                             "copy the guest's kernel and ramdisk to the same path");
    for (const auto& b : g.at("bridges"))
        if (const std::string bridge = b; !bridge.empty() && ::if_nametoindex(bridge.c_str()) == 0)
            return vmm::fail("there is no bridge " + bridge,
                             "create it there: ip link add " + bridge + " type bridge");
    return {};
}

vmm::Result<void> preflight(vmm::Daemon& here, const vmm::Json& g) {
    if (auto r = preflight_host(here, g); !r) return r;
    for (const auto& d : g.at("disks")) {
        const std::string path = d.at("path");
        const std::uint64_t size = disk_size(path);
        if (size == 0)
            return vmm::fail("disk " + path + " is not there: " + std::strerror(errno),
                             "the disk must be on storage both hosts reach, under the same path");
        if (size != d.at("size").get<std::uint64_t>())
            return vmm::fail("disk " + path + " has another size there: it is not the same disk",
                             "use storage that both hosts reach");
    }
    return {};
}

}  // namespace proa::migrate
