// Where a standby's disks are kept.
#include "remus/replica_files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace proa::remus {
namespace {

using ::testing::HasSubstr;

class Replicas : public ::testing::Test {
  protected:
    void SetUp() override { std::filesystem::create_directories(base); }
    void TearDown() override { std::filesystem::remove_all(base); }
    std::string file(const std::string& name, std::size_t bytes) const {
        std::ofstream(base + name) << std::string(bytes, 'x');
        return base + name;
    }
    static ReplicatedDisk disk(const std::string& path, std::uint64_t size = 1024) {
        return {"virtio0:block", path, size, 0, ""};
    }
    std::string refused(const std::vector<ReplicatedDisk>& disks, const std::vector<DiskInUse>& in_use = {}) {
        NewFiles made;
        const auto r = prepare_replicas(disks, in_use, made);
        EXPECT_FALSE(r);
        return r ? "" : r.error().what + "; " + r.error().remedy;
    }
    const std::string base = ::testing::TempDir() + "proa-replicas-" + std::to_string(::getpid()) + "/";
};

TEST_F(Replicas, AFileOfTheRightSizeIsTakenAsItIs) {
    const std::string path = file("a.img", 1024);
    {
        NewFiles made;
        ASSERT_TRUE(prepare_replicas({disk(path)}, {}, made));
    }
    EXPECT_EQ(std::filesystem::file_size(path), 1024u) << "nobody made it, nobody removes it";
    EXPECT_THAT(refused({disk(path, 2048)}), HasSubstr("has 1024 bytes there, the disk 2048"));
}

TEST_F(Replicas, AMissingFileIsMadeSparseAndStaysOnlyIfItIsKept) {
    const std::string path = base + "new.img";
    {
        NewFiles made;
        ASSERT_TRUE(prepare_replicas({disk(path, 1 << 30)}, {}, made));
        struct stat s {};
        ASSERT_EQ(::stat(path.c_str(), &s), 0);
        EXPECT_EQ(s.st_size, 1 << 30);
        EXPECT_LT(s.st_blocks, 1024);
        EXPECT_EQ(s.st_mode & 0777u, 0600u) << "a guest's disk is nobody's to read";
    }
    EXPECT_FALSE(std::filesystem::exists(path)) << "the standby did not come to be";
    {
        NewFiles made;
        ASSERT_TRUE(prepare_replicas({disk(path)}, {}, made));
        made.keep();
    }
    EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(Replicas, NothingIsMadeIfAnyDiskIsRefused) {
    EXPECT_THAT(refused({disk(base + "new.img"), disk(base + "no/where.img")}),
                HasSubstr("neither is its directory"));
    EXPECT_FALSE(std::filesystem::exists(base + "new.img"));
    file("plain", 1);
    EXPECT_THAT(refused({disk(base + "plain/x.img")}), HasSubstr("neither is its directory"));
}

TEST_F(Replicas, AMissingDeviceIsNotMadeAsAFile) {
    EXPECT_THAT(refused({disk("/dev/no-such-volume")}), HasSubstr("there is no device /dev/no-such-volume"));
    EXPECT_FALSE(std::filesystem::exists("/dev/no-such-volume"));
}

TEST_F(Replicas, ADiskOfAGuestHereIsRefusedUnderAnyName) {
    const std::string path = file("a.img", 1024);
    std::filesystem::create_symlink(path, base + "alias.img");
    EXPECT_THAT(refused({disk(base + "alias.img")}, {{"db", path}}), HasSubstr("is a disk of guest db there"));
    NewFiles made;
    EXPECT_TRUE(
        prepare_replicas({disk(path)}, {{"db", file("other.img", 1024)}, {"gone", base + "gone"}}, made));
}

TEST_F(Replicas, TwoDisksDoNotShareAReplica) {
    const std::string path = file("a.img", 1024);
    std::filesystem::create_hard_link(path, base + "b.img");
    EXPECT_THAT(refused({disk(path), disk(base + "b.img")}), HasSubstr("under another name"));
}

TEST_F(Replicas, WhatIsNoDiskIsRefused) {
    EXPECT_THAT(refused({disk(base)}), HasSubstr("neither a file nor a block device"));
    EXPECT_THAT(refused({disk("/dev/null")}), HasSubstr("neither a file nor a block device"));
}

}  // namespace
}  // namespace proa::remus
