#include "vmm/hv/huge_memory.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace proa::vmm {
namespace {

constexpr unsigned kHuge2M = 21u << 26;  // MFD_HUGE_2MB
constexpr std::uint64_t kPresent = 1ull << 63, kFrame = (1ull << 55) - 1;

std::string pool_remedy(std::uint64_t bytes, const std::string& who = "the guest") {
    return who + " needs " + std::to_string(bytes / HugeMemory::kChunk) +
           " huge pages of 2 MiB: raise /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages or lower "
           "`memory`";
}

}  // namespace

Result<int> create_huge_memfd(const std::string& name, std::uint64_t bytes) {
    const int fd = ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_HUGETLB | kHuge2M);
    if (fd < 0)
        return fail(std::string("cannot create huge-page memory: ") + std::strerror(errno), pool_remedy(bytes));
    // A shared mapping of huge pages reserves them for the file, not for itself: they stay reserved without it.
    void* p = MAP_FAILED;
    if (::ftruncate(fd, static_cast<off_t>(bytes)) == 0)
        p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        auto e = fail(
            "cannot reserve " + std::to_string(bytes >> 20) + " MiB of huge pages: " + std::strerror(errno),
            pool_remedy(bytes));
        ::close(fd);
        return e;
    }
    ::munmap(p, bytes);
    return fd;
}

Result<std::unique_ptr<HugeMemory>> HugeMemory::map(int fd, std::uint64_t bytes) {
    struct stat st {};
    if (::fstat(fd, &st) == 0 && st.st_blocks != 0) {
        ::close(fd);
        return fail("this memory was used before",
                    "a guest's begins as zeros, which its moves rely on: hand proa-vm a new memfd");
    }
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        auto e = fail(std::string("cannot map guest memory: ") + std::strerror(errno), pool_remedy(bytes));
        ::close(fd);
        return e;
    }
    return std::unique_ptr<HugeMemory>(new HugeMemory(fd, static_cast<std::uint8_t*>(p), bytes));
}

Result<std::unique_ptr<HugeMemory>> HugeMemory::append(std::uint64_t bytes, const std::string& what) {
    struct stat st {};
    const int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || ::fstat(fd, &st) != 0) {
        auto e = fail("cannot extend guest memory: " + std::string(std::strerror(errno)));
        if (fd >= 0) ::close(fd);
        return e;
    }
    const off_t at = st.st_size, end = at + static_cast<off_t>(bytes);
    void* p = MAP_FAILED;
    if (::ftruncate(fd, end) == 0) p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
    if (p == MAP_FAILED) {
        auto e = fail("cannot reserve " + std::to_string(bytes >> 20) + " MiB of huge pages for " + what +
                          ": " + std::strerror(errno),
                      pool_remedy(bytes, what));
        (void)!::ftruncate(fd, at);
        ::close(fd);
        return e;
    }
    std::unique_ptr<HugeMemory> m(new HugeMemory(fd, static_cast<std::uint8_t*>(p), bytes));
    m->appended_at_ = static_cast<std::uint64_t>(at);
    if (auto r = m->populate(0, m->chunks()); !r) return tl::unexpected(r.error());
    return m;
}

HugeMemory::~HugeMemory() {
    ::munmap(base_, size_);
    if (appended_at_ != 0) (void)!::ftruncate(fd_, static_cast<off_t>(appended_at_));
    ::close(fd_);
}

Result<void> HugeMemory::populate(std::uint64_t first, std::uint64_t count) {
    // Not by touching it: a byte that is read and written back would undo what another thread writes there meanwhile.
    if (::madvise(base_ + first * kChunk, count * kChunk, MADV_POPULATE_WRITE) != 0)
        return fail(std::string("cannot populate guest memory: ") + std::strerror(errno), pool_remedy(size_));
    const int map = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (map < 0)
        return fail(std::string("cannot open /proc/self/pagemap: ") + std::strerror(errno), "run as root");
    Result<void> result;
    for (std::uint64_t chunk = first; chunk < first + count && result; ++chunk) {
        std::uint64_t entry = 0;
        const auto index = reinterpret_cast<std::uint64_t>(base_ + chunk * kChunk) / 4096;
        if (::pread(map, &entry, 8, static_cast<off_t>(index * 8)) != 8 || (entry & kPresent) == 0)
            result = fail("guest memory has no physical page at offset " + std::to_string(chunk * kChunk),
                          pool_remedy(size_));
        else if ((entry & kFrame) == 0)
            result = fail("the kernel hides physical addresses", "run as root (CAP_SYS_ADMIN)");
        physical_[chunk] = (entry & kFrame) * 4096;
    }
    ::close(map);
    return result;
}

}  // namespace proa::vmm
