#include "remus/disk_files.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace proa::remus {
namespace {

tl::unexpected<vmm::Error> error(const std::string& what, const std::string& path) {
    return vmm::fail("cannot " + what + " " + path + ": " + std::strerror(errno),
                     "is there room, may proa write there, and does the host's log blame the storage?");
}

class SystemFile final : public DiskFile {
  public:
    SystemFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {
        struct stat st {};
        device_ = ::fstat(fd_, &st) == 0 && S_ISBLK(st.st_mode);
        inode_ = device_ ? 0 : st.st_ino;
    }
    ~SystemFile() override { ::close(fd_); }
    SystemFile(const SystemFile&) = delete;
    SystemFile& operator=(const SystemFile&) = delete;

    vmm::Result<std::uint64_t> size() const override {
        std::uint64_t bytes = 0;
        struct stat st {};
        if (device_ ? ::ioctl(fd_, BLKGETSIZE64, &bytes) != 0 : ::fstat(fd_, &st) != 0)
            return error("read the size of", path_);
        return device_ ? bytes : static_cast<std::uint64_t>(st.st_size);
    }
    std::uint64_t identity() const override { return inode_; }

    vmm::Result<void> read(std::uint64_t at, std::span<std::uint8_t> to) const override {
        while (!to.empty()) {
            const ssize_t n = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(at));
            if (n < 0 && errno == EINTR) continue;
            if (n == 0) return vmm::fail(path_ + " ends too early");
            if (n < 0) return error("read", path_);
            to = to.subspan(static_cast<std::size_t>(n));
            at += static_cast<std::uint64_t>(n);
        }
        return {};
    }

    vmm::Result<void> write(std::uint64_t at, std::span<const std::uint8_t> from) override {
        while (!from.empty()) {
            const ssize_t n = ::pwrite(fd_, from.data(), from.size(), static_cast<off_t>(at));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return error("write", path_);
            from = from.subspan(static_cast<std::size_t>(n));
            at += static_cast<std::uint64_t>(n);
        }
        return {};
    }

    vmm::Result<void> zero(std::uint64_t at, std::uint64_t length) override {
        std::uint64_t range[2] = {at, length};
        const int e = device_ ? ::ioctl(fd_, BLKZEROOUT, range)
                              : ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                            static_cast<off_t>(at), static_cast<off_t>(length));
        if (e == 0) return {};
        static const std::uint8_t zeroes[65536] = {};
        for (; length != 0; at += sizeof(zeroes), length -= std::min<std::uint64_t>(length, sizeof(zeroes)))
            if (auto ok = write(
                    at, {zeroes, static_cast<std::size_t>(std::min<std::uint64_t>(length, sizeof(zeroes)))});
                !ok)
                return ok;
        return {};
    }

    vmm::Result<void> resize(std::uint64_t bytes) override {
        if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return error("resize", path_);
        return {};
    }

    vmm::Result<void> sync() override {
        if (::fdatasync(fd_) != 0) return error("sync", path_);
        return {};
    }

  private:
    int fd_;
    std::string path_;
    bool device_ = false;
    std::uint64_t inode_ = 0;
};

class SystemFiles final : public DiskFiles {
  public:
    vmm::Result<std::unique_ptr<DiskFile>> open(const std::string& path) override { return open_as(path, 0); }
    vmm::Result<std::unique_ptr<DiskFile>> create(const std::string& path) override {
        auto f = open_as(path, O_CREAT);
        if (!f) return f;
        if (auto ok = (*f)->resize(0); !ok) return tl::unexpected(ok.error());
        return f;
    }
    vmm::Result<void> rename(const std::string& from, const std::string& to) override {
        if (::rename(from.c_str(), to.c_str()) != 0) return error("rename", from);
        return {};
    }
    vmm::Result<void> sync_directory_of(const std::string& path) override {
        const std::filesystem::path parent = std::filesystem::path(path).parent_path();
        const std::string directory = parent.empty() ? std::string(1, '.') : parent.string();
        const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const bool ok = fd >= 0 && ::fsync(fd) == 0;
        auto result = ok ? vmm::Result<void>() : error("sync", directory);
        if (fd >= 0) ::close(fd);
        return result;
    }

  private:
    static vmm::Result<std::unique_ptr<DiskFile>> open_as(const std::string& path, int how) {
        const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | how, 0600);
        if (fd < 0 && errno == ENOENT && how == 0) return std::unique_ptr<DiskFile>();
        if (fd < 0) return error("open", path);
        auto file = std::make_unique<SystemFile>(fd, path);
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0)
            return vmm::fail(path + " is in use by another process",
                             "is this guest protected, or running, here already? (proa list)");
        return file;
    }
};

}  // namespace

DiskFiles& DiskFiles::system() {
    static SystemFiles files;
    return files;
}

}  // namespace proa::remus
