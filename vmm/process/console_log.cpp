#include "vmm/process/console_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace proa::vmm {

ConsoleLog::~ConsoleLog() {
    if (fd_ >= 0) ::close(fd_);
}

void ConsoleLog::open() {
    fd_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    struct stat s {};
    size_ = fd_ >= 0 && ::fstat(fd_, &s) == 0 ? static_cast<std::uint64_t>(s.st_size) : 0;
}

void ConsoleLog::write(std::span<const std::uint8_t> bytes) {
    if (fd_ < 0) return;
    if (size_ >= most_) {
        ::close(fd_);
        ::rename(file_.c_str(), (file_ + ".1").c_str());
        open();
        if (fd_ < 0) return;
    }
    if (const ssize_t n = ::write(fd_, bytes.data(), bytes.size()); n > 0)
        size_ += static_cast<std::uint64_t>(n);
}

}  // namespace proa::vmm
