// A checkpoint is applied whole or not at all, whatever the primary sends: contents, bounds, terms and epochs.
#include "remus/checkpoint_buffer.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "tests/support/checkpoint.hpp"

namespace proa::remus {
namespace {

using test::frame;
using test::kTerm;
using Frames = std::vector<transport::Frame>;
constexpr std::uint64_t kMost = 1 << 20;

struct Backup {
    explicit Backup(std::uint64_t most = kMost) : buffer(ram, test::kDisks, test::kDevices, kTerm, most) {}
    // The first error, or whether the last record completed the checkpoint.
    transport::Result<bool> take(const Frames& frames) {
        transport::Result<bool> r = false;
        for (const auto& f : frames)
            if (r = buffer.take(f); !r) break;
        return r;
    }
    std::string refusal(const Frames& frames) {
        const auto r = take(frames);
        return r ? "(accepted)" : r.error().what;
    }
    Bytes ram = Bytes(test::kRamPages * kPageBytes);
    CheckpointBuffer buffer;
};

// The second checkpoint at a backup that has the first, spoilt; what is said about it. Memory must be untouched.
std::string second_with(const std::function<void(Frames&)>& spoil) {
    test::SampleStream s;
    Backup b;
    EXPECT_TRUE(b.take(s.first).value());
    b.buffer.commit();
    const Bytes before = b.ram;
    spoil(s.second);
    const std::string why = b.refusal(s.second);
    EXPECT_EQ(b.ram, before);
    if (why != "(accepted)") {
        EXPECT_FALSE(b.buffer.complete());
        EXPECT_EQ(b.buffer.held_bytes(), 0u);
        EXPECT_EQ(b.buffer.epoch(), 1u);
        EXPECT_TRUE(b.take(test::SampleStream().second).value()) << "a good one is taken after " << why;
    }
    return why;
}
auto says(const std::string& part, const std::string& all) {
    return all.find(part) != std::string::npos
               ? testing::AssertionSuccess()
               : testing::AssertionFailure() << '"' << all << "\" says nothing of " << part;
}
Frames::iterator find(Frames& f, Record r) {
    return std::find_if(f.begin(), f.end(), [r](const auto& x) { return is(x, r); });
}
void replace(Frames& f, Record r, Bytes with) {
    find(f, r)->payload = std::move(with);
}

TEST(CheckpointBuffer, NothingIsAppliedBeforeCommitAndEverythingByIt) {
    test::SampleStream s;
    Backup b;
    EXPECT_EQ(b.buffer.epoch(), 0u);
    ASSERT_TRUE(b.take(s.first).value());
    EXPECT_TRUE(b.buffer.complete());
    EXPECT_EQ(b.ram, Bytes(b.ram.size()));
    b.buffer.commit();
    EXPECT_EQ(b.ram[kPageBytes], 0x11);
    const Bytes before = b.ram;
    const auto done = b.take(s.second);
    ASSERT_TRUE(done) << done.error().what;
    EXPECT_TRUE(*done && b.buffer.final());
    EXPECT_EQ(b.ram, before);
    EXPECT_EQ(b.buffer.epoch(), 2u);
    const auto c = b.buffer.commit();
    EXPECT_EQ(c.epoch, 2u);
    EXPECT_EQ(c.pages, 3u);
    EXPECT_EQ(c.machine.vcpus.at(0).pc, 0x4008'0000u);
    ASSERT_EQ(c.devices.size(), 2u);
    EXPECT_EQ(c.devices[1].name, "virtio0:block");
    EXPECT_EQ(c.devices[1].state, Bytes{2});
    ASSERT_EQ(c.disk_writes.size(), 1u);
    EXPECT_EQ(c.disk_writes[0].writes.size(), 2u);
    EXPECT_EQ(c.disk_writes[0].data, Bytes(512, 0xdd));
    EXPECT_EQ(b.ram[kPageBytes], 0);
    EXPECT_EQ(b.ram[2 * kPageBytes + 800], 0x23);
    EXPECT_EQ(b.ram[2 * kPageBytes + 801], 0x22);
    EXPECT_EQ(b.ram[9 * kPageBytes + 4095], 0x99);
    EXPECT_FALSE(b.buffer.complete());
    EXPECT_EQ(b.buffer.held_bytes(), 0u);
    EXPECT_EQ(b.buffer.epoch(), 2u);
}

TEST(CheckpointBuffer, CommittingAnUnfinishedCheckpointIsABugOfTheCaller) {
    Backup b;
    EXPECT_THROW(b.buffer.commit(), std::logic_error);
    test::SampleStream s;
    ASSERT_FALSE(b.take({s.first.begin(), s.first.end() - 1}).value());
    EXPECT_THROW(b.buffer.commit(), std::logic_error);
}

TEST(CheckpointBuffer, ADroppedCheckpointLeavesNoTraceAndItsEpochIsStillDue) {
    test::SampleStream s;
    Backup b;
    ASSERT_FALSE(b.take({s.first.begin(), s.first.end() - 1}).value());
    EXPECT_GT(b.buffer.held_bytes(), 0u);
    b.buffer.drop();
    EXPECT_EQ(b.buffer.held_bytes(), 0u);
    EXPECT_EQ(b.buffer.epoch(), 0u);
    EXPECT_TRUE(b.take(s.first).value());  // also: its pages don't count as seen
}

TEST(CheckpointBuffer, ACompleteCheckpointSurvivesWhateverComesBeforeItsCommit) {
    test::SampleStream s;
    Backup b;
    ASSERT_TRUE(b.take(s.first).value());
    EXPECT_FALSE(b.take(s.second));
    b.buffer.drop();
    EXPECT_TRUE(b.buffer.complete());
    EXPECT_EQ(b.buffer.commit().pages, 2u);
    EXPECT_EQ(b.ram[kPageBytes], 0x11);
}

TEST(CheckpointBuffer, AnotherTermsCheckpointIsRefusedByName) {
    EXPECT_TRUE(says("an old primary's checkpoint: term 3, this is 5", second_with([](Frames& f) {
                         replace(f, Record::Begin, encode(BeginRecord{3, 2}));
                     })));
    EXPECT_TRUE(says("another primary's checkpoint: term 6, this is 5", second_with([](Frames& f) {
                         replace(f, Record::Begin, encode(BeginRecord{6, 2}));
                     })));
    EXPECT_TRUE(says("an old primary's checkpoint: term 4, this is 5", second_with([](Frames& f) {
                         replace(f, Record::End, encode(EndRecord{4, 2, 3, 2, 2, false}));
                     })));
}

TEST(CheckpointBuffer, EpochsComeOneByOne) {
    for (const std::uint64_t epoch : {0ull, 1ull, 3ull, ~0ull})
        EXPECT_TRUE(says("where 2 is due", second_with([epoch](Frames& f) {
                             replace(f, Record::Begin, encode(BeginRecord{kTerm, epoch}));
                         })));
    EXPECT_TRUE(says("the end of epoch 1 in epoch 2", second_with([](Frames& f) {
                         replace(f, Record::End, encode(EndRecord{kTerm, 1, 3, 2, 2, false}));
                     })));
    test::SampleStream s;
    Backup b;
    EXPECT_TRUE(says("epoch 2 where 1 is due", b.refusal(s.second)));
}

TEST(CheckpointBuffer, WhatTheEndCountsMustHaveCome) {
    const auto end = [](EndRecord e) {
        return second_with([e](Frames& f) { replace(f, Record::End, encode(e)); });
    };
    EXPECT_EQ(end({kTerm, 2, 3, 2, 2, false}), "(accepted)");
    EXPECT_TRUE(says("3 pages where it counts 4", end({kTerm, 2, 4, 2, 2, false})));
    EXPECT_TRUE(says("2 disk writes where it counts 1", end({kTerm, 2, 3, 1, 2, false})));
    EXPECT_TRUE(says("2 devices where it counts 3", end({kTerm, 2, 3, 2, 3, false})));
    EXPECT_TRUE(
        says("0 pages where it counts 3", second_with([](Frames& f) { f.erase(find(f, Record::Pages)); })));
    EXPECT_TRUE(says("0 disk writes where it counts 2",
                     second_with([](Frames& f) { f.erase(find(f, Record::DiskWrites)); })));
}

TEST(CheckpointBuffer, APageComesAtMostOnceACheckpoint) {
    EXPECT_TRUE(says("page 1 comes twice", second_with([](Frames& f) {
                         const auto pages = *find(f, Record::Pages);
                         f.insert(find(f, Record::Pages), pages);
                     })));
}

TEST(CheckpointBuffer, DevicesAreExactlyThoseOfTheGuestHere) {
    const auto device = [](Frames& f, const std::string& name) {
        f.insert(f.end() - 1, frame(migrate::Record::Device, migrate::encode_device({name, {}})));
    };
    EXPECT_TRUE(says("device uart comes twice", second_with([&](Frames& f) { device(f, "uart"); })));
    EXPECT_TRUE(says("it has a device n?t", second_with([&](Frames& f) { device(f, "n\x1bt"); })));
    EXPECT_TRUE(says("device virtio0:block is missing", second_with([](Frames& f) { f.erase(f.end() - 2); })));
    EXPECT_TRUE(says("device uart is missing", second_with([](Frames& f) { f.erase(f.end() - 3); })));
    EXPECT_EQ(second_with([](Frames& f) { std::swap(f[f.size() - 2], f[f.size() - 3]); }), "(accepted)");
}

TEST(CheckpointBuffer, DiskWritesStayInsideOfTheirDisk) {
    const auto write = [](std::uint32_t disk, DiskWrite w) {
        return second_with([&](Frames& f) {
            replace(f, Record::DiskWrites, encode(DiskWritesRecord{disk, {w, w}, {}}));
        });
    };
    EXPECT_EQ(write(0, {test::kDiskBytes - 512, 512, true}), "(accepted)");
    EXPECT_EQ(write(1, {0, 4096, true}), "(accepted)");
    EXPECT_TRUE(says("past the end of disk 1", write(1, {0, 4608, true})));
    EXPECT_TRUE(says("past the end of disk 0", write(0, {test::kDiskBytes, 512, true})));
    EXPECT_TRUE(says("past the end of disk 0", write(0, {1ull << 50, 512, true})));
    EXPECT_TRUE(says("a write to disk 2, which there isn't", write(2, {0, 512, true})));
}

TEST(CheckpointBuffer, HoldsNoMoreThanItMay) {
    test::SampleStream s;
    Backup b;
    std::uint64_t most = 0;
    for (const auto& f : s.first) {
        ASSERT_TRUE(b.buffer.take(f));
        most = std::max(most, b.buffer.held_bytes());
    }
    EXPECT_GE(most, 2 * kPageBytes);
    Backup pages(2 * kPageBytes), device(2 * kPageBytes + 2 * sizeof(PageUpdate) + 1);
    EXPECT_TRUE(says("more of them than this backup may hold", pages.refusal(s.first)));
    EXPECT_TRUE(says("it takes more than 0 MiB", device.refusal(s.first)));
    Backup disk(100'000);
    DiskWritesRecord w{0, {{0, 65536, false}}, Bytes(65536)};
    EXPECT_TRUE(says("it takes more than", disk.refusal({s.first[0], frame(Record::DiskWrites, encode(w))})));
}

TEST(CheckpointBuffer, ManyRecordsOfOneCheckpointAddUpAgainstTheBound) {
    Backup b(100'000);
    ASSERT_TRUE(b.buffer.take(test::SampleStream().first[0]));
    const auto record = frame(Record::DiskWrites, encode(DiskWritesRecord{0, {{0, 4096, false}}, Bytes(4096)}));
    int taken = 0;
    while (b.buffer.take(record)) ASSERT_LT(++taken, 100);
    EXPECT_GT(taken, 15);
    EXPECT_EQ(b.buffer.held_bytes(), 0u);
}

}  // namespace
}  // namespace proa::remus
