// A proad that starts where guests run already: it asks the kernel who they are, not them, so that one that hangs is
// known all the same (and can be destroyed).
#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>

#include "vmm/daemon/daemon.hpp"

namespace proa::vmm {
namespace {

// The memory must not go away with a killed proa-vm: opened anew from its descriptors.
int memfd_of(int pid) {
    const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
    int found = -1;
    if (DIR* d = ::opendir(directory.c_str())) {
        while (const dirent* e = ::readdir(d)) {
            char target[256] = {};
            const std::string link = directory + "/" + e->d_name;
            if (::readlink(link.c_str(), target, sizeof(target) - 1) > 0 &&
                std::strstr(target, "memfd:") != nullptr && found < 0)
                found = ::open(link.c_str(), O_RDWR | O_CLOEXEC);
        }
        ::closedir(d);
    }
    return found;
}

// The value of an option on proa-vm's command line, as spawn() wrote it; empty if it is not there.
std::string option_of(int pid, const std::string& option) {
    std::ifstream f("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
    const std::string all(std::istreambuf_iterator<char>(f), {});
    std::vector<std::string> words;
    for (std::size_t at = 0; at < all.size();) {
        words.emplace_back(all.c_str() + at);
        at += words.back().size() + 1;
    }
    for (std::size_t i = 0; i < words.size(); ++i)
        if (words[i] == option) return i + 1 < words.size() ? words[i + 1] : option;
    return {};
}

}  // namespace

// Two proads would fight over the host function: the first one keeps it. The lock goes with the process.
Result<void> Daemon::lock() {
    const std::string path = options_.run + "/proad.lock";
    lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_ < 0) return fail("cannot open " + path + ": " + std::strerror(errno), "run as root");
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
        char who[32] = {};
        (void)!::pread(lock_, who, sizeof(who) - 1, 0);
        return fail("another proad (process " + std::string(who) + ") serves " + options_.run + " already",
                    "stop it first; its guests go on without it");
    }
    const std::string me = std::to_string(::getpid());
    (void)!::ftruncate(lock_, 0);
    (void)!::pwrite(lock_, me.data(), me.size(), 0);
    return {};
}

void Daemon::adopt() {
    DIR* d = ::opendir((options_.run + "/vm").c_str());
    if (d == nullptr) return;
    while (const dirent* e = ::readdir(d)) {
        std::string name = e->d_name;
        if (name.size() < 6 || name.substr(name.size() - 5) != ".sock") continue;
        name.resize(name.size() - 5);
        const int pid = listener_of(socket_of(name));
        unsigned slot = 0;
        const std::string text = option_of(pid, "--slot");
        std::from_chars(text.data(), text.data() + text.size(), slot);
        if (pid == 0 || slot == 0) {
            forget(name);
            continue;
        }
        GuestEntry g{name, slot, pid, memfd_of(pid), !option_of(pid, "--incoming").empty(), "", {}, false};
        std::ifstream(file_of(name, "session")) >> g.session;
        std::ifstream config(file_of(name, "cfg"));
        if (auto c = parse_config({std::istreambuf_iterator<char>(config), {}}, file_of(name, "cfg")); c) {
            g.disks = disk_paths(*c);
            g.auto_reprotect = c->auto_reprotect;
        }
        guests_[name] = g;
        watch(name, pid);
        spdlog::info("found {} in slot {}, process {}", name, g.slot, pid);
    }
    ::closedir(d);
}

// An adopted proa-vm is not our child: its pidfd (pidfd_open(2)) becomes readable when it ends.
void Daemon::watch(const std::string& name, int pid) {
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) return forget(name);  // it ended a moment ago
    auto watched = std::make_shared<boost::asio::posix::stream_descriptor>(io_, fd);
    watched->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                        [this, name, watched](const boost::system::error_code& e) {
                            if (e) return;
                            spdlog::info("{}: ended", name);
                            forget(name);
                        });
}

}  // namespace proa::vmm
