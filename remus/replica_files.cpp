#include "remus/replica_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "migrate/preflight.hpp"

namespace proa::remus {
namespace {

using vmm::fail;

// By what they are, not by what they are called: /dev/vg0/web is /dev/dm-3, too.
bool same_file(const struct stat& a, const struct stat& b) {
    if (S_ISBLK(a.st_mode) && S_ISBLK(b.st_mode)) return a.st_rdev == b.st_rdev;
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

vmm::Result<void> check_there(const ReplicatedDisk& d, const struct stat& s,
                              const std::vector<DiskInUse>& in_use) {
    if (!S_ISREG(s.st_mode) && !S_ISBLK(s.st_mode))
        return fail("replica " + d.path + " is neither a file nor a block device", "choose another path");
    for (const auto& other : in_use) {
        struct stat o {};
        if (::stat(other.path.c_str(), &o) == 0 && same_file(s, o))
            return fail("replica " + d.path + " is a disk of guest " + other.guest + " there",
                        "a replica is a disk of its own: choose another path (--disk NAME=PATH)");
    }
    // Of a block device O_EXCL asks whether the kernel holds it: mounted, swapped to, part of a volume group or RAID.
    const int fd = ::open(d.path.c_str(), O_RDWR | O_CLOEXEC | (S_ISBLK(s.st_mode) ? O_EXCL : 0));
    if (fd < 0)
        return fail("cannot open replica " + d.path + ": " + std::strerror(errno),
                    errno == EBUSY
                        ? "it is mounted or used otherwise there: choose another path (--disk NAME=PATH)"
                        : "");
    ::close(fd);
    if (const std::uint64_t size = migrate::disk_size(d.path); size != d.size)
        return fail("replica " + d.path + " has " + std::to_string(size) + " bytes there, the disk " +
                        std::to_string(d.size),
                    S_ISREG(s.st_mode) ? "remove it, or truncate it to that size" : "make it the same size");
    return {};
}

vmm::Result<void> check_can_be_made(const ReplicatedDisk& d) {
    for (const char* kernels : {"/dev/", "/proc/", "/sys/"})
        if (d.path.rfind(kernels, 0) == 0)
            return fail("there is no device " + d.path,
                        "create the volume there, or choose a file: --disk NAME=PATH");
    const std::string directory = d.path.substr(0, d.path.rfind('/') + 1);
    struct stat s {};
    if (::stat(directory.c_str(), &s) != 0 || !S_ISDIR(s.st_mode))
        return fail("replica " + d.path + " is not there, and neither is its directory",
                    "create the directory, or choose another path: --disk NAME=PATH");
    return {};
}

vmm::Result<void> make(const ReplicatedDisk& d, NewFiles& made) {
    const int fd = ::open(d.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int error = errno;
    if (fd >= 0) {
        made.made(d.path);
        error = ::ftruncate(fd, static_cast<off_t>(d.size)) == 0 ? 0 : errno;
        ::close(fd);
        if (error == 0) return {};
    }
    return fail(
        "cannot make replica " + d.path + " of " + std::to_string(d.size) + " bytes: " + std::strerror(error),
        "make it there by hand, or choose another path: --disk NAME=PATH");
}

}  // namespace

NewFiles::~NewFiles() {
    for (const auto& p : paths_) ::unlink(p.c_str());
}

vmm::Result<void> prepare_replicas(const std::vector<ReplicatedDisk>& disks,
                                   const std::vector<DiskInUse>& in_use, NewFiles& made) {
    std::vector<const ReplicatedDisk*> missing;
    std::vector<struct stat> there;
    for (const auto& d : disks) {
        struct stat s {};
        if (::stat(d.path.c_str(), &s) == 0) {
            if (auto r = check_there(d, s, in_use); !r) return r;
            for (const auto& other : there)
                if (same_file(s, other))
                    return fail("replica " + d.path + " is another disk's replica under another name",
                                "each disk has a replica of its own");
            there.push_back(s);
        } else if (errno == ENOENT || errno == ENOTDIR) {
            if (auto r = check_can_be_made(d); !r) return r;
            missing.push_back(&d);
        } else {
            return fail("cannot look at replica " + d.path + ": " + std::strerror(errno));
        }
    }
    for (const ReplicatedDisk* d : missing)  // not before everything else is right
        if (auto r = make(*d, made); !r) return r;
    return {};
}

}  // namespace proa::remus
