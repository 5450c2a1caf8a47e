// A replica on a real file system: its rules, and what it survives between two processes.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/unit/remus_disk/scratch.hpp"

namespace proa::remus {
namespace {

constexpr std::uint64_t kBytes = 64 * 512;

class ReplicaTest : public ::testing::Test {
  protected:
    vmm::Result<std::unique_ptr<DiskReplica>> open(std::uint64_t bytes = kBytes) {
        return DiskReplica::open(scratch.file("disk"), bytes, scratch.path, identity);
    }
    std::unique_ptr<DiskReplica> must_open() {
        auto r = open();
        EXPECT_TRUE(r) << r.error().what;
        return std::move(*r);
    }
    std::unique_ptr<DiskReplica> synced(std::uint64_t term = 5) {
        auto r = must_open();
        EXPECT_TRUE(r->begin_sync());
        EXPECT_TRUE(r->apply(term, 1, scribble(image, random, 20)));
        return r;
    }
    Scratch scratch;
    std::string identity = "web/virtio0:block";
    Image image = Image(kBytes);
    std::mt19937 random{4};
};

TEST_F(ReplicaTest, IsMadeStaleAndSparseAndConsistentAfterTheFirstEpoch) {
    auto r = must_open();
    EXPECT_EQ(r->state(), ReplicaState::Stale);
    EXPECT_EQ(scratch.contents("disk"), image);
    struct stat st {};
    ASSERT_EQ(::stat(scratch.file("disk").c_str(), &st), 0);
    EXPECT_EQ(st.st_blocks, 0);
    EXPECT_FALSE(r->apply(1, 1, {})) << "stale, and no sync";
    EXPECT_FALSE(r->sync_write({0, {{0, 512, true}}, {}}));
    EXPECT_FALSE(r->hand_over());
    ASSERT_TRUE(r->begin_sync());
    ASSERT_TRUE(r->sync_write({0, {{0, kBytes, true}}, {}}));
    ASSERT_EQ(::stat(scratch.file("disk").c_str(), &st), 0);
    EXPECT_EQ(st.st_blocks, 0) << "zeroes need no room";
    ASSERT_TRUE(r->apply(1, 1, scribble(image, random, 9)));
    EXPECT_EQ(r->state(), ReplicaState::Consistent);
    EXPECT_FALSE(r->sync_write({0, {{0, 512, true}}, {}})) << "the sync is over";
    EXPECT_EQ(scratch.contents("disk"), image);
}

TEST_F(ReplicaTest, IsFoundAgainWithTheLastEpochThatWroteSomething) {
    auto r = synced();
    ASSERT_TRUE(r->apply(5, 2, scribble(image, random, 9)));
    ASSERT_TRUE(r->apply(5, 3, {}));
    EXPECT_EQ(r->epoch(), 3u);
    r.reset();
    r = must_open();
    EXPECT_EQ(r->state(), ReplicaState::Consistent);
    EXPECT_EQ(r->term(), 5u);
    EXPECT_EQ(r->epoch(), 2u);
    EXPECT_EQ(scratch.contents("disk"), image);
    EXPECT_TRUE(r->apply(5, 4, scribble(image, random, 3)));
    EXPECT_EQ(scratch.contents("disk"), image);
}

TEST_F(ReplicaTest, AnOldPrimarysWritesAreRefusedAlsoAfterARestart) {
    auto r = synced(5);
    ASSERT_TRUE(r->apply(6, 1, {}));
    const auto refused = [&] {
        Image other = image;
        const auto writes = scribble(other, random, 1);
        EXPECT_FALSE(r->apply(5, 9, writes)) << "an old term";
        EXPECT_FALSE(r->apply(6, 1, writes)) << "an epoch that has been";
        EXPECT_EQ(scratch.contents("disk"), image);
        EXPECT_EQ(r->term(), 6u);
    };
    refused();
    r.reset();
    r = must_open();
    refused();
    ASSERT_TRUE(r->begin_sync());
    EXPECT_FALSE(r->apply(5, 1, {})) << "nor by a sync";
    EXPECT_TRUE(r->apply(6, 1, {})) << "which may begin its term's epochs anew";
}

TEST_F(ReplicaTest, WritesThatDoNotFitAreRefusedBeforeAnyIsMade) {
    auto r = synced();
    const std::vector<std::uint8_t> sector(512, 1);
    const auto refused = [&](const DiskWrite& bad, std::vector<std::uint8_t> data) {
        data.insert(data.begin(), sector.begin(), sector.end());
        const DiskWritesRecord record{0, {{0, 512, false}, bad}, data};
        const bool no = !r->apply(5, 2, {record});
        EXPECT_EQ(scratch.contents("disk"), image);
        return no;
    };
    EXPECT_TRUE(refused({kBytes, 512, false}, sector));
    EXPECT_TRUE(refused({~0ull - 511, 1024, true}, {}));
    EXPECT_TRUE(refused({0, ~0ull - 511, true}, {}));
    EXPECT_TRUE(refused({100, 512, false}, sector));
    EXPECT_TRUE(refused({0, 100, true}, {}));
    EXPECT_TRUE(refused({0, 0, true}, {}));
    EXPECT_TRUE(refused({0, 1024, false}, sector)) << "without its data";
    EXPECT_TRUE(refused({0, 512, true}, sector)) << "data nobody names";
    EXPECT_TRUE(r->apply(5, 2, {})) << "a bad epoch is no broken storage";
}

TEST_F(ReplicaTest, AfterItsGuestRanOnItNothingIsKnownOfIt) {
    auto r = synced();
    ASSERT_TRUE(r->flush());
    ASSERT_TRUE(r->hand_over());
    EXPECT_EQ(r->state(), ReplicaState::Stale);
    EXPECT_FALSE(r->apply(5, 2, {}));
    r.reset();
    EXPECT_EQ(must_open()->state(), ReplicaState::Stale);
    EXPECT_EQ(scratch.contents("disk"), image) << "what the guest runs on";
}

TEST_F(ReplicaTest, AnotherFileUnderItsNameIsNotTakenForIt) {
    synced().reset();
    EXPECT_EQ(must_open()->state(), ReplicaState::Consistent);
    std::filesystem::copy_file(scratch.file("disk"), scratch.file("copy"));
    std::filesystem::rename(scratch.file("copy"), scratch.file("disk"));
    EXPECT_EQ(must_open()->state(), ReplicaState::Stale);
}

TEST_F(ReplicaTest, AFileThatIsGoneIsMadeAnewAndStale) {
    synced().reset();
    std::filesystem::remove(scratch.file("disk"));
    EXPECT_EQ(must_open()->state(), ReplicaState::Stale);
    EXPECT_EQ(must_open()->state(), ReplicaState::Stale) << "and stays so";
}

TEST_F(ReplicaTest, ADamagedStateOrJournalIsNeverBelieved) {
    synced().reset();
    std::string state, journal;
    for (const auto& f : std::filesystem::directory_iterator(scratch.path)) {
        if (f.path().extension() == ".state") state = f.path().filename();
        if (f.path().extension() == ".journal") journal = f.path().filename();
    }
    const Image good = scratch.contents(state);
    for (std::size_t at = 0; at < good.size(); ++at) {
        Image bad = good;
        bad[at] ^= 0x10;
        scratch.write(state, bad);
        ASSERT_EQ(must_open()->state(), ReplicaState::Stale) << at;
    }
    scratch.write(state, {});
    EXPECT_EQ(must_open()->state(), ReplicaState::Stale);

    scratch.write(state, good);
    {
        auto r = must_open();
        ASSERT_EQ(r->state(), ReplicaState::Consistent);
        Image next = image;
        ASSERT_TRUE(r->apply(5, 2, scribble(next, random, 2)));
    }
    const Image entry = scratch.contents(journal), disk = scratch.contents("disk"),
                before = scratch.contents(state);
    for (std::size_t at = 0; at < entry.size(); at += 1 + random() % 64) {
        Image bad = entry;
        bad[at] ^= 0x10;
        scratch.write(journal, bad);
        scratch.write(state, before);
        scratch.write("disk", image);  // as if nothing of epoch 2 had come
        auto r = must_open();
        ASSERT_EQ(scratch.contents("disk"), r->epoch() == 2 ? disk : image) << at;
    }
}

TEST_F(ReplicaTest, HasOneUserAtATime) {
    auto r = must_open();
    const auto second = open();
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().what.find("in use"), std::string::npos);
    identity = "another";
    EXPECT_FALSE(open());
    r.reset();
    EXPECT_TRUE(open());
}

TEST_F(ReplicaTest, OfAnotherSizeIsRefusedByName) {
    must_open().reset();
    const auto r = open(2 * kBytes);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().what.find(scratch.file("disk")), std::string::npos);
    EXPECT_FALSE(open(0));
    EXPECT_FALSE(open(100));
}

TEST_F(ReplicaTest, ANameWithSlashesStaysInItsDirectory) {
    identity = "../../etc/x";
    synced().reset();
    unsigned files = 0;
    for (const auto& f : std::filesystem::directory_iterator(scratch.path)) files += f.is_regular_file();
    EXPECT_EQ(files, 3u) << "disk, state, journal";
}

TEST_F(ReplicaTest, HashesComeInPiecesAndEndWithTheDisk) {
    const std::uint64_t bytes = 2 * kHashBlock + 512;
    auto r = open(bytes);
    ASSERT_TRUE(r);
    EXPECT_EQ((*r)->blocks(), 3u);
    const auto all = (*r)->hashes(0, 3), last = (*r)->hashes(2, 1);
    ASSERT_TRUE(all && last);
    EXPECT_EQ(all->size(), 48u);
    EXPECT_TRUE(std::equal(last->begin(), last->end(), all->begin() + 32));
    const auto short_block = hash_of(Image(512));
    EXPECT_TRUE(std::equal(short_block.begin(), short_block.end(), last->begin()));
    EXPECT_FALSE((*r)->hashes(2, 2));
    EXPECT_FALSE((*r)->hashes(~0ull, 2));
}

}  // namespace
}  // namespace proa::remus
