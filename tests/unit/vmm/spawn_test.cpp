// What a proa-vm is started with: its guest's memory, a pipe to say that it is ready, its log, and nothing of proad's.
#include "vmm/daemon/spawn.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "tests/support/temporary.hpp"

namespace proa::vmm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SpawnTest : public ::testing::Test {
  protected:
    ~SpawnTest() override { ::close(memfd); }
    Result<Spawned> shell(const std::string& script) {
        return spawn_vm({"sh", "-c", script}, memfd, directory / "log");
    }
    // What it says through its pipe until that ends; it has ended then, too.
    static std::string heard(const Spawned& s) {
        std::string all;
        char b[64];
        for (ssize_t n = 0; (n = ::read(s.ready, b, sizeof(b))) > 0;)
            all.append(b, static_cast<std::size_t>(n));
        ::close(s.ready);
        int status = 0;
        EXPECT_EQ(::waitpid(s.pid, &status, 0), s.pid);
        return all;
    }
    std::string log() const {
        std::ifstream f(directory / "log");
        return {std::istreambuf_iterator<char>(f), {}};
    }
    test::TemporaryDirectory directory;
    int memfd = ::memfd_create("guest-memory", MFD_CLOEXEC);
};

TEST_F(SpawnTest, ItHasItsMemoryAndSaysThatItIsReady) {
    const auto s = shell("readlink /proc/self/fd/3; echo \"$0 $1 $2 $3\" >&2; printf r >&4");
    ASSERT_TRUE(s) << s.error().what;
    EXPECT_EQ(heard(*s), "r");
    EXPECT_THAT(log(), HasSubstr("memfd:guest-memory"));
    EXPECT_THAT(log(), HasSubstr("--memfd 3 --ready-fd 4"));
}

TEST_F(SpawnTest, ItInheritsNothingElse) {
    const int kept = ::open("/dev/zero", O_RDONLY);  // as Asio opens its sockets
    const auto s = shell("for f in /proc/self/fd/*; do readlink $f; done");
    ASSERT_TRUE(s) << s.error().what;
    EXPECT_EQ(heard(*s), "");
    EXPECT_THAT(log(), HasSubstr("memfd:guest-memory"));
    EXPECT_THAT(log(), Not(HasSubstr("/dev/zero")));
    ::close(kept);
}

TEST_F(SpawnTest, OneThatEndsBeforeItIsReadySaysNothing) {
    const auto s = shell("echo 'error: no such disk'; exit 1");
    ASSERT_TRUE(s);
    EXPECT_EQ(heard(*s), "");
    EXPECT_EQ(log(), "error: no such disk\n");
}

TEST_F(SpawnTest, ASignalToProadsTerminalIsNotOneToIt) {
    const auto s = shell("cut -d' ' -f1,6 /proc/self/stat");
    ASSERT_TRUE(s);
    (void)heard(*s);
    EXPECT_THAT(log(), HasSubstr(" " + std::to_string(s->pid))) << "it leads a session of its own";
}

TEST_F(SpawnTest, AProgramThatIsNotThereIsNamed) {
    const auto s = spawn_vm({"/nonexistent/proa-vm"}, memfd, directory / "log");
    ASSERT_FALSE(s);
    EXPECT_THAT(s.error().what, HasSubstr("cannot start /nonexistent/proa-vm"));
}

TEST_F(SpawnTest, ALogThatCannotBeWrittenIsNamed) {
    const auto s = spawn_vm({"true"}, memfd, "/nonexistent/g1.log");
    ASSERT_FALSE(s);
    EXPECT_THAT(s.error().what, HasSubstr("/nonexistent/g1.log"));
}

}  // namespace
}  // namespace proa::vmm
