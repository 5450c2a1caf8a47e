#include "migrate/session.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace proa::migrate {
namespace {

tl::unexpected<vmm::Error> io_error(const std::string& what, const std::string& path) {
    return vmm::fail(what + " " + path + ": " + std::strerror(errno),
                     "is there room, and may proa write there?");
}

}  // namespace

std::string Session::file(SessionState s) const {
    return path_ + "." + name_of(s);
}

// Records only move forward, and this looks in the order of the moves: one that moves meanwhile is met further on.
SessionState Session::state() const {
    for (const auto s :
         {SessionState::Open, SessionState::Starting, SessionState::Started, SessionState::Never})
        if (::access(file(s).c_str(), F_OK) == 0) return s;
    return SessionState::Unknown;
}

vmm::Result<void> Session::sync() const {
    const std::string directory = std::filesystem::path(path_).parent_path();
    const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool ok = fd >= 0 && ::fsync(fd) == 0;
    auto result = ok ? vmm::Result<void>() : io_error("cannot sync", directory);
    if (fd >= 0) ::close(fd);
    return result;
}

vmm::Result<SessionAnswer> Session::apply(SessionEvent e) const {
    for (;;) {
        const SessionState now = state();
        const SessionStep s = step(now, e);
        if (s.next != now && now == SessionState::Unknown) {
            const int fd = ::open(file(s.next).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (fd < 0 && errno == EEXIST) continue;
            if (fd < 0) return io_error("cannot write", file(s.next));
            ::close(fd);
        } else if (s.next != now && ::rename(file(now).c_str(), file(s.next).c_str()) != 0) {
            if (errno == ENOENT) continue;  // someone else moved it
            return io_error("cannot rename", file(now));
        }
        // Also when this call moved nothing: who moved it may have died before it synced.
        if (auto r = sync(); !r) return tl::unexpected(r.error());
        return s.answer;
    }
}

void Session::rehearse() const {
    const std::string from = path_ + ".rehearsal", to = path_ + ".rehearsed";
    const int fd = ::open(from.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
    (void)state();
    (void)::rename(from.c_str(), to.c_str());
    (void)::unlink(to.c_str());
    (void)sync();
}

void Session::prune(const std::string& directory, std::chrono::hours older_than) {
    std::error_code e;
    const auto limit = std::filesystem::file_time_type::clock::now() - older_than;
    for (const auto& f : std::filesystem::directory_iterator(directory, e))
        if (f.last_write_time(e) < limit && !e) std::filesystem::remove(f.path(), e);
}

}  // namespace proa::migrate
