#include "vmm/virtio/raw_disk.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

namespace proa::vmm {
namespace {

constexpr std::size_t kAlign = kSectorBytes, kPage = 4096;

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t bytes)
    : size_((bytes + kPage - 1) / kPage * kPage),
      bytes_(static_cast<std::uint8_t*>(std::aligned_alloc(kPage, size_))) {
    if (!bytes_) throw std::bad_alloc();
}

void AlignedBuffer::Free::operator()(std::uint8_t* p) const {
    std::free(p);
}

Result<std::unique_ptr<RawDisk>> RawDisk::open(const std::string& path, bool read_only) {
    const int mode = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    bool direct = true;
    int fd = ::open(path.c_str(), mode | O_DIRECT);
    if (fd < 0 && errno == EINVAL) {  // tmpfs and the like
        direct = false;
        fd = ::open(path.c_str(), mode);
    }
    if (fd < 0)
        return fail("cannot open disk " + path + ": " + std::strerror(errno),
                    "create it, correct `disk` in the guest's config, or mark it read-only with ,r");
    struct stat st {};
    std::uint64_t bytes = 0;
    const bool device = ::fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
    if (device)
        ::ioctl(fd, BLKGETSIZE64, &bytes);
    else
        bytes = static_cast<std::uint64_t>(st.st_size);
    if (bytes < kSectorBytes) {
        ::close(fd);
        return fail("disk " + path + " is empty",
                    "it must be a raw image or a block device of at least 512 bytes");
    }
    return std::unique_ptr<RawDisk>(
        new RawDisk(fd, path, bytes / kSectorBytes * kSectorBytes, read_only, direct, device));
}

RawDisk::~RawDisk() {
    ::close(fd_);
}

bool RawDisk::takes(std::span<const std::uint8_t> b) const {
    return !direct_ || (reinterpret_cast<std::uintptr_t>(b.data()) | b.size()) % kAlign == 0;
}

bool RawDisk::read(std::uint64_t at, std::span<std::uint8_t> to) const {
    while (!to.empty()) {
        const ssize_t n = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        to = to.subspan(static_cast<std::size_t>(n));
        at += static_cast<std::uint64_t>(n);
    }
    return true;
}

bool RawDisk::write(std::uint64_t at, std::span<const std::uint8_t> from) {
    while (!from.empty()) {
        const ssize_t n = ::pwrite(fd_, from.data(), from.size(), static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        from = from.subspan(static_cast<std::size_t>(n));
        at += static_cast<std::uint64_t>(n);
    }
    return true;
}

bool RawDisk::zero(std::uint64_t at, std::uint64_t bytes, bool unmap) {
    std::uint64_t range[2] = {at, bytes};
    if (device_ && ::ioctl(fd_, BLKZEROOUT, range) == 0) return true;
    const int how = unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    if (!device_ &&
        ::fallocate(fd_, how | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at), static_cast<off_t>(bytes)) == 0)
        return true;
    alignas(kPage) static const std::uint8_t zeroes[65536] = {};
    while (bytes != 0) {
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, sizeof(zeroes)));
        if (!write(at, {zeroes, n})) return false;
        at += n;
        bytes -= n;
    }
    return true;
}

// A hint: storage that can't forget is no error.
bool RawDisk::discard(std::uint64_t at, std::uint64_t bytes) {
    std::uint64_t range[2] = {at, bytes};
    const int e = device_ ? ::ioctl(fd_, BLKDISCARD, range)
                          : ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
                                        static_cast<off_t>(bytes));
    return e == 0 || errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL;
}

bool RawDisk::flush() {
    return ::fdatasync(fd_) == 0;
}

}  // namespace proa::vmm
