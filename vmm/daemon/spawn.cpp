#include "vmm/daemon/spawn.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace proa::vmm {
namespace {

// What they are called in the child.
constexpr int kMemfd = 3, kReady = 4, kOthers = 5;

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

  private:
    int fd_;
};

// Out of the way of the numbers that the child's have.
Descriptor above(int fd) {
    return Descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, kOthers));
}

tl::unexpected<Error> cannot_start(const std::string& program, int error) {
    return fail("cannot start " + program + ": " + std::strerror(error));
}

}  // namespace

Result<Spawned> spawn_vm(std::vector<std::string> args, int memfd, const std::string& log) {
    const std::string program = args.front();
    args.insert(args.end(), {"--memfd", std::to_string(kMemfd), "--ready-fd", std::to_string(kReady)});
    std::array<int, 2> pipe{-1, -1};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return cannot_start(program, errno);
    Descriptor ready(pipe[0]);
    const Descriptor low(pipe[1]), says = above(low.get()), memory = above(memfd),
                                   output(::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640)),
                                   out = above(output.get());
    if (says.get() < 0 || memory.get() < 0) return cannot_start(program, errno);
    if (out.get() < 0) return fail("cannot write " + log + ": " + std::strerror(errno));

    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&how);
    ::posix_spawn_file_actions_adddup2(&files, out.get(), 1);
    ::posix_spawn_file_actions_adddup2(&files, out.get(), 2);
    ::posix_spawn_file_actions_adddup2(&files, memory.get(), kMemfd);
    ::posix_spawn_file_actions_adddup2(&files, says.get(), kReady);
    // Asio opens sockets without CLOEXEC: a guest that inherited proad's listeners would keep them (and their ports) from
    // the next proad.
    ::posix_spawn_file_actions_addclosefrom_np(&files, kOthers);
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&how, &none);
    ::posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);

    std::vector<char*> argv;
    for (auto& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    Spawned s;
    const int error = ::posix_spawnp(&s.pid, program.c_str(), &files, &how, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&how);
    if (error != 0) return cannot_start(program, error);
    s.ready = ready.release();
    return s;
}

}  // namespace proa::vmm
