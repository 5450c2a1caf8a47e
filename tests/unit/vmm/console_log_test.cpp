#include "vmm/process/console_log.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

namespace proa::vmm {
namespace {

TEST(ConsoleLog, KeepsTheNewestOutputInBoundedSpace) {
    const std::string file = ::testing::TempDir() + "proa-console-" + std::to_string(::getpid());
    {
        ConsoleLog log(file, 1000);
        for (int i = 0; i < 100; ++i)
            log.write(std::vector<std::uint8_t>(64, static_cast<std::uint8_t>('a' + i % 26)));
    }
    EXPECT_LE(std::filesystem::file_size(file), 1000u + 64);
    EXPECT_LE(std::filesystem::file_size(file + ".1"), 1000u + 64);
    EXPECT_GE(std::filesystem::file_size(file + ".1"), 1000u);
    {
        ConsoleLog again(file, 1000);  // a restart appends, and counts what is there
        for (int i = 0; i < 40; ++i) again.write(std::vector<std::uint8_t>(64, '!'));
    }
    EXPECT_LE(std::filesystem::file_size(file), 1000u + 64);
    std::filesystem::remove(file);
    std::filesystem::remove(file + ".1");
}

}  // namespace
}  // namespace proa::vmm
