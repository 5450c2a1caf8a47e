// Every record in every place, every truncation and every flipped byte of a valid stream: refused, or a checkpoint in bounds.
#include <gtest/gtest.h>

#include "remus/checkpoint_buffer.hpp"
#include "tests/support/checkpoint.hpp"

namespace proa::remus {
namespace {

using Frames = std::vector<transport::Frame>;

struct Backup {
    Bytes ram = Bytes(test::kRamPages * kPageBytes);
    CheckpointBuffer buffer{ram, test::kDisks, test::kDevices, test::kTerm, 1 << 20};
    bool take(const Frames& frames) {
        bool complete = false;
        for (const auto& f : frames) {
            const auto r = buffer.take(f);
            if (!r) return false;
            complete = *r;
        }
        return complete;
    }
};
void expect_in_bounds(const CheckpointBuffer::Committed& c) {
    EXPECT_LE(c.pages, test::kRamPages);
    EXPECT_EQ(c.devices.size(), test::kDevices.size());
    EXPECT_TRUE(!c.machine.vcpus.empty() && c.machine.vcpus.size() <= abi::kMaxVcpus);
    for (const auto& r : c.disk_writes) {
        ASSERT_LT(r.disk, test::kDisks.size());
        for (const auto& w : r.writes) EXPECT_LE(w.offset + w.length, test::kDisks[r.disk]);
    }
}

TEST(CheckpointOrder, ARecordIsTakenInItsPlaceOnly) {
    const test::SampleStream s;
    enum Place { Idle, Begun, HavePages, HaveMachine, HaveDevice, Done };
    const std::size_t length[] = {0, 1, 2, 3, 4, s.first.size()};
    const transport::Frame kinds[] = {
        s.first[0], s.first[1],
        test::frame(Record::DiskWrites, encode(DiskWritesRecord{0, {{0, 512, true}}, {}})), s.first[2],
        s.first[4]};
    const bool taken[6][5] = {
        // Begin  Pages  Writes Machine Device
        {true, false, false, false, false},   // Idle
        {false, true, true, true, false},     // Begun
        {false, false, true, true, false},    // HavePages: the same pages again are refused, other ones are not
        {false, false, false, false, true},   // HaveMachine
        {false, false, false, false, true},   // HaveDevice
        {false, false, false, false, false},  // Done, not yet committed
    };
    for (unsigned place = Idle; place <= Done; ++place)
        for (unsigned kind = 0; kind < 5; ++kind) {
            Backup b;
            for (std::size_t i = 0; i < length[place]; ++i) ASSERT_TRUE(b.buffer.take(s.first[i]));
            EXPECT_EQ(b.buffer.take(kinds[kind]).has_value(), taken[place][kind]) << place << ' ' << kind;
        }
}

TEST(CheckpointOrder, AnEndComesAfterEverythingElse) {
    const test::SampleStream s;
    for (std::size_t n = 0; n < s.first.size() - 1; ++n) {
        Frames f(s.first.begin(), s.first.begin() + static_cast<std::ptrdiff_t>(n));
        f.push_back(s.first.back());
        EXPECT_FALSE(Backup().take(f)) << n;
    }
}

TEST(CheckpointOrder, ARecordOfNoCheckpointIsRefusedByItsNumberAndAnAbortByItsReason) {
    for (const auto type : {static_cast<std::uint16_t>(Record::Hello), static_cast<std::uint16_t>(Record::Ack),
                            static_cast<std::uint16_t>(Record::Beat), static_cast<std::uint16_t>(0x80ff)}) {
        const auto r = Backup().buffer.take({type, {}});
        ASSERT_FALSE(r);
        EXPECT_NE(r.error().what.find("record " + std::to_string(type & 0x7fff)), std::string::npos);
    }
    const auto abort = test::frame(migrate::Record::Abort, migrate::encode_abort({"no more memory", ""}));
    const auto r = Backup().buffer.take(abort);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().what, "the peer gave up: no more memory");
}

TEST(CheckpointOrder, ALostRepeatedOrSwappedRecordNeverCompletesACheckpoint) {
    const test::SampleStream s;
    const auto complete = [&](const Frames& second) {
        Backup b;
        EXPECT_TRUE(b.take(s.first));
        b.buffer.commit();
        return b.take(second);
    };
    ASSERT_TRUE(complete(s.second));
    for (std::size_t i = 0; i < s.second.size(); ++i) {
        Frames lost = s.second, repeated = s.second;
        lost.erase(lost.begin() + static_cast<std::ptrdiff_t>(i));
        repeated.insert(repeated.begin() + static_cast<std::ptrdiff_t>(i), s.second[i]);
        EXPECT_FALSE(complete(lost)) << i;
        if (i + 1 < s.second.size()) {
            EXPECT_FALSE(complete(repeated)) << i;
        } else {
            Backup b;  // a second End: the checkpoint is complete already, and stays so
            b.take(s.first);
            b.buffer.commit();
            EXPECT_FALSE(b.take(repeated));
            EXPECT_TRUE(b.buffer.complete());
        }
    }
}

TEST(CheckpointOrder, EveryTruncationOfARecordIsRefused) {
    const test::SampleStream s;
    Backup b;
    ASSERT_TRUE(b.take(s.first));
    b.buffer.commit();
    for (std::size_t i = 0; i < s.second.size(); ++i) {
        for (std::size_t n = 0; n < s.second[i].payload.size(); ++n) {
            Frames f = s.second;
            f[i].payload.resize(n);
            ASSERT_FALSE(b.take(f)) << i << ' ' << n;
            ASSERT_EQ(b.buffer.held_bytes(), 0u);
        }
    }
    ASSERT_TRUE(b.take(s.second));
}

TEST(CheckpointOrder, EveryFlippedByteIsRefusedOrGivesACheckpointInBounds) {
    const test::SampleStream s;
    for (std::size_t i = 0; i < s.second.size(); ++i)
        for (std::size_t at = 0; at < s.second[i].payload.size(); ++at) {
            // Contents of a plain page and of disk data are anything: every 16th will do.
            if (at > 200 && (i == 1 || i == 2) && at % 16 != 0) continue;
            Backup b;
            ASSERT_TRUE(b.take(s.first));
            b.buffer.commit();
            const Bytes before = b.ram;
            Frames f = s.second;
            f[i].payload[at] ^= 0xff;
            if (b.take(f))
                expect_in_bounds(b.buffer.commit());
            else
                ASSERT_EQ(b.ram, before) << i << ' ' << at;
        }
}

}  // namespace
}  // namespace proa::remus
