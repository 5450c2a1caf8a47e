// Records: bytes that never change (golden files), values that come back, and values that no peer may send.
#include "remus/records.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>

#include "tests/support/checkpoint.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/memory_stream.hpp"

namespace proa::remus {
namespace {

migrate::Token token() {
    migrate::Token t;
    for (std::size_t i = 0; i < t.size(); ++i) t[i] = static_cast<std::uint8_t>(i);
    return t;
}
HelloRecord hello() {
    return {kReplicationVersion, 1, token(), 7, {{"virtio0:block", 1 << 30}, {"virtio1:block", 512}}};
}
DiskHashesRecord hashes() {
    return {1, 16, 65536, true, Bytes(2 * kHashBytes, 0xab)};
}
DiskWritesRecord writes() {
    return {1, {{0, 512, false}, {1 << 20, 1 << 30, true}, {4096, 1024, false}}, Bytes(1536, 0xcd)};
}

void expect_golden(const std::string& name, View bytes) {
    test::expect_golden(PROA_GOLDEN, name, bytes);
}

TEST(ReplicationRecords, EveryRecordsBytesAreTheGoldenOnes) {
    expect_golden("hello", encode(hello()));
    expect_golden("epoch", encode(EpochRecord{5, 300}));
    expect_golden("begin", encode(BeginRecord{5, 300}));
    expect_golden("end", encode(EndRecord{5, 300, 1000, 20, 4, true}));
    expect_golden("beat", encode(BeatRecord{5, 77}));
    expect_golden("disk_hashes", encode(hashes()));
    expect_golden("disk_writes", encode(writes()));
    expect_golden("pages", test::SampleStream().second[1].payload);
    EXPECT_EQ(encode(AckRecord{5, 300}), encode(EpochRecord{5, 300}));
}

TEST(ReplicationRecords, TheWorkedExampleIsWhatGoesOnTheWire) {
    test::Pipe p;
    auto c = test::channel_on(p);
    for (const auto& f : test::SampleStream().second) ASSERT_TRUE(c.send(f.type, f.payload));
    expect_golden("worked_example", p.written);
}

// One line of the example: byte values up to two spaces, where `v * n` is n of them; -1 for "??".
void read_example_line(const std::string& line, std::vector<int>& to) {
    std::istringstream words(line.substr(4, line.find("  ", 4) - 4));
    for (std::string w; words >> w;) {
        if (w == "*") {
            std::size_t n = 0;
            words >> n;
            to.resize(to.size() + n - 1, to.back());
        } else {
            to.push_back(w == "??" ? -1 : std::stoi(w, nullptr, 16));
        }
    }
}

TEST(ReplicationRecords, TheDocumentShowsTheWorkedExample) {
    std::ifstream document(PROA_DOCUMENT);
    std::vector<int> shown;
    bool there = false;
    for (std::string line; std::getline(document, line);) {
        if (line.starts_with("#")) there = line == "### A replication example";
        if (there && line.starts_with("    ")) read_example_line(line, shown);
    }
    Bytes sent;
    for (std::ifstream f(std::string(PROA_GOLDEN) + "/worked_example.hex"); f;)
        if (std::string byte; f >> byte)
            sent.push_back(static_cast<std::uint8_t>(std::stoi(byte, nullptr, 16)));
    ASSERT_EQ(shown.size(), sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i)
        ASSERT_TRUE(shown[i] == -1 || shown[i] == sent[i]) << "byte " << i;
}

TEST(ReplicationRecords, EveryRecordComesBack) {
    const auto h = decode_hello(encode(hello()));
    ASSERT_TRUE(h) << h.error().what;
    EXPECT_TRUE(h->channel == 1 && h->token == token() && h->term == 7);
    ASSERT_EQ(h->disks.size(), 2u);
    EXPECT_EQ(h->disks[1].name, "virtio1:block");
    EXPECT_EQ(h->disks[0].size, 1u << 30);
    EXPECT_EQ(decode_epoch(encode(EpochRecord{5, 6})).value().epoch, 6u);
    EXPECT_EQ(decode_ack(encode(AckRecord{5, 6})).value().term, 5u);
    EXPECT_EQ(decode_begin(encode(BeginRecord{5, 6})).value().epoch, 6u);
    EXPECT_EQ(decode_beat(encode(BeatRecord{5, ~0ull})).value().count, ~0ull);
    const auto e = decode_end(encode(EndRecord{1, 2, 3, 4, 5, true}));
    ASSERT_TRUE(e) << e.error().what;
    EXPECT_TRUE(e->term == 1 && e->epoch == 2 && e->pages == 3 && e->disk_writes == 4 && e->devices == 5);
    EXPECT_TRUE(e->final);
    const auto d = decode_disk_hashes(encode(hashes()));
    ASSERT_TRUE(d) << d.error().what;
    EXPECT_TRUE(d->disk == 1 && d->first_block == 16 && d->block_bytes == 65536 && d->last);
    EXPECT_EQ(d->hashes, hashes().hashes);
    const auto w = decode_disk_writes(encode(writes()));
    ASSERT_TRUE(w) << w.error().what;
    ASSERT_EQ(w->writes.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(w->writes[i].offset, writes().writes[i].offset) << i;
        EXPECT_EQ(w->writes[i].length, writes().writes[i].length) << i;
        EXPECT_EQ(w->writes[i].zero, writes().writes[i].zero) << i;
    }
    EXPECT_EQ(w->data, writes().data);
}

TEST(ReplicationRecords, SendPutsOneFrameOfItsTypeOnTheWire) {
    test::Pipe p;
    auto c = test::channel_on(p);
    ASSERT_TRUE(send(c, Record::Ack, encode(AckRecord{5, 6})));
    p.to_read = std::move(p.written);
    const auto f = migrate::receive(c);
    ASSERT_TRUE(f);
    EXPECT_TRUE(is(*f, Record::Ack));
    EXPECT_FALSE(is(*f, Record::Yours));
}

TEST(ReplicationRecords, AnUnknownMandatoryFieldIsRefusedAndAnOptionalOneSkipped) {
    const auto with = [](Bytes b, unsigned field) {  // a varint, value 1
        for (unsigned tag = field << 3; tag != 0; tag >>= 7)
            b.push_back(static_cast<std::uint8_t>((tag & 0x7f) | (tag > 0x7f ? 0x80 : 0)));
        b.push_back(1);
        return b;
    };
    const std::pair<Bytes, std::function<bool(View)>> records[] = {
        {encode(hello()), [](View b) { return decode_hello(b).has_value(); }},
        {encode(EpochRecord{5, 6}), [](View b) { return decode_epoch(b).has_value(); }},
        {encode(AckRecord{5, 6}), [](View b) { return decode_ack(b).has_value(); }},
        {encode(BeginRecord{5, 6}), [](View b) { return decode_begin(b).has_value(); }},
        {encode(EndRecord{5, 6, 0, 0, 0, false}), [](View b) { return decode_end(b).has_value(); }},
        {encode(BeatRecord{5, 6}), [](View b) { return decode_beat(b).has_value(); }},
        {encode(hashes()), [](View b) { return decode_disk_hashes(b).has_value(); }},
    };
    for (std::size_t i = 0; i < std::size(records); ++i) {
        const auto& [bytes, accepted] = records[i];
        EXPECT_TRUE(accepted(bytes)) << i;
        EXPECT_TRUE(accepted(with(bytes, 1000))) << i;
        EXPECT_FALSE(accepted(with(bytes, 999))) << i;
        EXPECT_FALSE(accepted({})) << i;
    }
}

TEST(ReplicationRecords, AHelloOfAnotherVersionSaysWhichIsSpokenHere) {
    auto h = hello();
    h.version = 9;
    const auto r = decode_hello(encode(h));
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().what.find("replication version 9, this host speaks 2"), std::string::npos);
}

TEST(ReplicationRecords, HellosThatPromiseNonsenseAreRefused) {
    const auto refused = [](auto&& spoil) {
        auto h = hello();
        spoil(h);
        return !decode_hello(encode(h));
    };
    EXPECT_FALSE(refused([](auto&) {}));
    EXPECT_FALSE(refused([](auto& h) { h.disks.clear(); }));
    EXPECT_FALSE(refused([](auto& h) { h.disks[0].name.assign(kMaxDiskName, 'x'); }));
    EXPECT_TRUE(refused([](auto& h) { h.channel = 2; }));
    EXPECT_TRUE(refused([](auto& h) { h.disks[0].name.clear(); }));
    EXPECT_TRUE(refused([](auto& h) { h.disks[0].name.assign(kMaxDiskName + 1, 'x'); }));
    EXPECT_TRUE(refused([](auto& h) { h.disks[1].name = h.disks[0].name; }));
    EXPECT_TRUE(refused([](auto& h) { h.disks[0].size = 0; }));
    EXPECT_TRUE(refused([](auto& h) { h.disks[0].size = 513; }));
    EXPECT_TRUE(refused([](auto& h) { h.disks[0].size = kMaxDiskBytes + 512; }));
    EXPECT_TRUE(refused([](auto& h) {
        for (std::size_t i = 2; i <= kMaxDisks; ++i) h.disks.push_back({std::to_string(i), 512});
    }));
    EXPECT_FALSE(refused([](auto& h) {
        for (std::size_t i = 2; i < kMaxDisks; ++i) h.disks.push_back({std::to_string(i), 512});
    }));
}

TEST(ReplicationRecords, DiskHashesOfImpossibleShapeAreRefused) {
    const auto refused = [](auto&& spoil) {
        auto h = hashes();
        spoil(h);
        return !decode_disk_hashes(encode(h));
    };
    EXPECT_FALSE(refused([](auto& h) { h.hashes.resize(kMaxHashes * kHashBytes); }));
    EXPECT_TRUE(refused([](auto& h) { h.hashes.resize((kMaxHashes + 1) * kHashBytes); }));
    EXPECT_TRUE(refused([](auto& h) { h.hashes.clear(); }));
    EXPECT_TRUE(refused([](auto& h) { h.hashes.pop_back(); }));
    EXPECT_TRUE(refused([](auto& h) { h.disk = kMaxDisks; }));
    EXPECT_TRUE(refused([](auto& h) { h.block_bytes = 0; }));
    EXPECT_TRUE(refused([](auto& h) { h.block_bytes = 513; }));
    EXPECT_TRUE(refused([](auto& h) { h.block_bytes = 8u << 20; }));
    EXPECT_TRUE(refused([](auto& h) { h.first_block = ~0ull; }));
    EXPECT_TRUE(refused([](auto& h) { h.first_block = kMaxDiskBytes / h.block_bytes; }));
    EXPECT_FALSE(refused([](auto& h) { h.first_block = kMaxDiskBytes / h.block_bytes - 1; }));
}

TEST(ReplicationRecords, DiskWritesOfImpossibleShapeAreRefused) {
    const auto refused = [](auto&& spoil) {
        auto w = writes();
        spoil(w);
        return !decode_disk_writes(encode(w));
    };
    EXPECT_FALSE(refused([](auto&) {}));
    EXPECT_TRUE(refused([](auto& w) { w.disk = kMaxDisks; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes.clear(), w.data.clear(); }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[0].offset = 1; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[0].length = 0; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[1].length = 0; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[0].length = 510; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[0].length = 1024; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[0].length = ~511ull; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[1].length = ~511ull; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[1].offset = ~511ull; }));
    EXPECT_TRUE(refused([](auto& w) { w.writes[2].zero = true; }));
    EXPECT_TRUE(refused([](auto& w) { w.data.pop_back(); }));
    EXPECT_TRUE(refused([](auto& w) { w.data.push_back(0); }));
    EXPECT_FALSE(refused([](auto& w) { w.writes.resize(kMaxWrites, {0, 512, true}); }));
    EXPECT_TRUE(refused([](auto& w) { w.writes.resize(kMaxWrites + 1, {0, 512, true}); }));
    Bytes lying = encode(writes());
    lying[4] = lying[5] = lying[6] = lying[7] = 0xff;  // the count
    EXPECT_FALSE(decode_disk_writes(lying));
}

TEST(ReplicationRecords, TruncatedRecordsAreRefusedAndMutatedOnesStayInBounds) {
    const Bytes good = encode(writes());
    for (std::size_t n = 0; n < good.size(); ++n) ASSERT_FALSE(decode_disk_writes(View(good).first(n))) << n;
    std::mt19937 random(5);
    for (int n = 0; n < 20'000; ++n) {
        Bytes bad = good;
        for (unsigned k = 1 + random() % 4; k > 0; --k)
            bad[random() % 64] ^= static_cast<std::uint8_t>(1u << random() % 8);
        const auto r = decode_disk_writes(bad);
        if (!r) continue;
        std::uint64_t data = 0;
        for (const auto& w : r->writes) {
            EXPECT_TRUE(w.offset % 512 == 0 && w.length % 512 == 0 && w.length != 0);
            EXPECT_LE(w.offset + w.length, kMaxDiskBytes);
            data += w.zero ? 0 : w.length;
        }
        EXPECT_EQ(data, r->data.size());
    }
}

}  // namespace
}  // namespace proa::remus
