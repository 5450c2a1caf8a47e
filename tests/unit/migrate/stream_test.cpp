// Records: bytes that never change (golden files), and what a reader does with those it has no name for.
#include "migrate/stream.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "migrate/page_batch.hpp"
#include "migrate/registers.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/memory_stream.hpp"

namespace proa::migrate {
namespace {

Token token() {
    Token t;
    for (std::size_t i = 0; i < t.size(); ++i) t[i] = static_cast<std::uint8_t>(i);
    return t;
}

// Every byte of the state differs from its neighbours, so that a field in a wrong place shows.
template <class T>
void fill(T& t, std::uint32_t seed) {
    std::mt19937 random(seed);
    auto* p = reinterpret_cast<std::uint8_t*>(&t);
    for (std::size_t i = 0; i < sizeof(T); ++i) p[i] = static_cast<std::uint8_t>(random());
}

vmm::MachineState machine(unsigned vcpus = 2) {
    vmm::MachineState s;
    for (unsigned i = 0; i < vcpus; ++i) {
        abi::VcpuState v;
        fill(v, i + 1);
        v.version = abi::kStateVersion;
        v.power = i == 0 ? abi::PowerState::On : abi::PowerState::Suspended;
        std::fill(std::begin(v.reserved), std::end(v.reserved), 0);
        s.vcpus.push_back(v);
    }
    s.gic.version = abi::kStateVersion;
    s.gic.vcpu_count = vcpus;
    s.gic.spi_count = 64;
    s.gic.gicd_ctlr = 0x52;
    for (unsigned i = 0; i < vcpus; ++i) {
        s.gic.gicr_waker[i] = i;
        fill(s.gic.privates[i], 10 + i);
    }
    for (unsigned i = 0; i < 64; ++i) fill(s.gic.spis[i], 100 + i);
    s.time = {abi::kStateVersion, 0, 0x0123'4567'89ab'cdef, 62'500'000, {}};
    s.latches.version = abi::kStateVersion;
    s.latches.count = abi::kVirtioSlots;
    s.latches.status[3] = 1;
    fill(s.policy, 42);
    s.policy.version = abi::kStateVersion;
    s.policy.reserved0 = 0;
    std::fill(std::begin(s.policy.reserved1), std::end(s.policy.reserved1), 0);
    return s;
}

void expect_golden(const std::string& name, View bytes) {
    test::expect_golden(PROA_GOLDEN, name, bytes);
}

TEST(Stream, EveryRecordsBytesAreTheGoldenOnes) {
    expect_golden("hello", encode_hello({kStreamVersion, 1, 2, token()}));
    expect_golden("round", encode_round(300));
    expect_golden("machine", encode_machine(machine(1)));
    expect_golden("policy", encode_policy(machine().policy));
    expect_golden("device", encode_device({"virtio0:block", {1, 2, 3, 4}}));
    expect_golden("complete", encode_complete({7, 5}));
    expect_golden("abort", encode_abort({"no disk /dev/vda here", "share it"}));
    BatchEncoder e;
    e.add(2, Bytes(kPageBytes, 0));
    e.add(0x1234, Bytes(kPageBytes, 0xab));
    expect_golden("pages", e.bytes());
}

// docs/STREAM.md shows these bytes.
TEST(Stream, TheWorkedExampleIsWhatGoesOnTheWire) {
    test::Pipe p;
    auto c = test::channel_on(p);
    ASSERT_TRUE(send(c, Record::Hello, encode_hello({kStreamVersion, 1, 2, token()})));
    ASSERT_TRUE(send(c, Record::RoundEnd, encode_round(0)));
    expect_golden("worked_example", p.written);
}

TEST(Stream, GoldenBytesOfOtherHostsAreUnderstood) {
    const auto golden = [](const std::string& name) {
        std::ifstream f(std::string(PROA_GOLDEN) + "/" + name + ".hex");
        std::string hex, part;
        while (f >> part) hex += part;
        Bytes b;
        EXPECT_TRUE(from_hex(hex, b)) << name;
        return b;
    };
    const auto h = decode_hello(golden("hello"));
    ASSERT_TRUE(h) << h.error().what;
    EXPECT_TRUE(h->channel == 1 && h->channels == 2 && same_token(h->token, token()));
    EXPECT_EQ(decode_round(golden("round")).value(), 300u);
    EXPECT_EQ(decode_device(golden("device")).value().name, "virtio0:block");
    EXPECT_EQ(decode_complete(golden("complete")).value().final_round, 7u);
    EXPECT_EQ(decode_abort(golden("abort")).remedy, "share it");
    EXPECT_TRUE(decode_machine(golden("machine")));
}

TEST(Stream, AMachineComesBackBitForBit) {
    for (const unsigned vcpus : {1u, 2u, 8u}) {
        const auto s = machine(vcpus);
        const auto back = decode_machine(encode_machine(s));
        ASSERT_TRUE(back) << back.error().what;
        ASSERT_EQ(back->vcpus.size(), vcpus);
        for (unsigned i = 0; i < vcpus; ++i)
            EXPECT_EQ(std::memcmp(&back->vcpus[i], &s.vcpus[i], sizeof(abi::VcpuState)), 0) << i;
        EXPECT_EQ(std::memcmp(&back->gic, &s.gic, sizeof(s.gic)), 0);
        EXPECT_EQ(std::memcmp(&back->time, &s.time, sizeof(s.time)), 0);
        EXPECT_EQ(std::memcmp(&back->latches, &s.latches, sizeof(s.latches)), 0);
        EXPECT_EQ(std::memcmp(&back->policy, &s.policy, sizeof(s.policy)), 0);
    }
}

TEST(Stream, EveryRegisterHasARowOfItsOwn) {
    const auto distinct = [](std::span<const RegisterRow> rows) {
        for (const auto& a : rows)
            for (const auto& b : rows)
                if (&a != &b && (a.id == b.id || a.offset == b.offset))
                    return std::string(a.name) + " " + b.name;
        return std::string();
    };
    EXPECT_EQ(distinct(kVcpuRegisters), "");
    EXPECT_EQ(distinct(kPolicyRegisters), "");
}

// --- what a reader doesn't know --------------------------------------------------------------------------------

Bytes with_field(Bytes record, unsigned number) {  // appends: field `number`, a varint, value 1
    for (unsigned tag = number << 3; tag != 0; tag >>= 7)
        record.push_back(static_cast<std::uint8_t>((tag & 0x7f) | (tag > 0x7f ? 0x80 : 0)));
    record.push_back(1);
    return record;
}

TEST(Stream, AnUnknownMandatoryFieldIsRefusedAndAnOptionalOneSkipped) {
    const auto mandatory = decode_device(with_field(encode_device({"uart", {}}), 999));
    ASSERT_FALSE(mandatory);
    EXPECT_NE(mandatory.error().what.find("mandatory field"), std::string::npos);
    EXPECT_TRUE(decode_device(with_field(encode_device({"uart", {}}), 1000)));
    EXPECT_FALSE(decode_machine(with_field(encode_machine(machine()), 6)));
    EXPECT_TRUE(decode_machine(with_field(encode_machine(machine()), 2000)));
    EXPECT_FALSE(decode_round(with_field(encode_round(1), 2)));
    EXPECT_FALSE(decode_complete(with_field(encode_complete({1, 1}), 3)));
    EXPECT_FALSE(decode_policy(with_field(encode_policy(machine().policy), 3)));
    EXPECT_FALSE(decode_hello(with_field(encode_hello({kStreamVersion, 0, 2, token()}), 5)));
}

test::Pipe piped(std::initializer_list<std::uint16_t> types) {
    test::Pipe p;
    auto c = test::channel_on(p);
    for (const auto t : types) EXPECT_TRUE(c.send(t, Bytes{1, 2, 3}));
    p.to_read = std::move(p.written);
    return p;
}

TEST(Stream, AnUnknownMandatoryRecordIsRefusedAndAnOptionalOneSkipped) {
    constexpr auto ready = static_cast<std::uint16_t>(Record::Ready);
    test::Pipe p = piped({77, 78, ready});
    auto c = test::channel_on(p);
    EXPECT_TRUE(expect(c, Record::Ready));
    test::Pipe q = piped({transport::kMandatory | 77, ready});
    auto d = test::channel_on(q);
    const auto r = expect(d, Record::Ready);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().what.find("record 77"), std::string::npos) << r.error().what;
}

TEST(Stream, OptionalRecordsWithoutEndAreRefused) {
    test::Pipe p;
    auto w = test::channel_on(p);
    for (unsigned i = 0; i < 1'000; ++i) ASSERT_TRUE(w.send(77, {}));
    p.to_read = std::move(p.written);
    auto c = test::channel_on(p);
    EXPECT_FALSE(receive(c));
}

TEST(Stream, LateFramesAreOptionalKnownAndBounded) {
    const LateFrame sent{"virtio1:net", {1, 2, 3}};
    test::Pipe p;
    auto c = test::channel_on(p);
    ASSERT_TRUE(send(c, {{Record::Started, {}}, {Record::LateFrame, encode_late(sent)}}));
    p.to_read = p.written;
    ASSERT_TRUE(expect(c, Record::Started));
    const auto f = receive(c);
    ASSERT_TRUE(f) << f.error().what;
    EXPECT_TRUE(is(*f, Record::LateFrame));
    EXPECT_EQ(f->type & transport::kMandatory, 0) << "who doesn't know it skips it";
    const auto got = decode_late(f->payload);
    ASSERT_TRUE(got) << got.error().what;
    EXPECT_EQ(got->device, sent.device);
    EXPECT_EQ(got->frame, sent.frame);
    EXPECT_FALSE(decode_late(encode_late({"", {1}})));
    EXPECT_FALSE(decode_late(encode_late({std::string(129, 'x'), {1}})));
    EXPECT_FALSE(decode_late(encode_late({"virtio1:net", {}})));
    EXPECT_TRUE(decode_late(encode_late({"virtio1:net", Bytes(kMaxLateFrame)})));
    EXPECT_FALSE(decode_late(encode_late({"virtio1:net", Bytes(kMaxLateFrame + 1)})));
    EXPECT_FALSE(decode_late(Bytes{0xff}));
}

TEST(Stream, ARecordOutOfOrderIsRefusedByItsNumber) {
    test::Pipe p = piped({static_cast<std::uint16_t>(Record::Commit)});
    auto c = test::channel_on(p);
    const auto r = expect(c, Record::Machine);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().what.find("record 10 where it doesn't belong"), std::string::npos) << r.error().what;
}

TEST(Stream, AnAbortSaysWhyAndItsTextIsHarmless) {
    test::Pipe p;
    auto w = test::channel_on(p);
    ASSERT_TRUE(send(w, Record::Abort, encode_abort({"no\x1b[2Jdisk\n", "buy one"})));
    p.to_read = std::move(p.written);
    auto c = test::channel_on(p);
    const auto r = expect(c, Record::Ready);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().what, "the peer gave up: no [2Jdisk ");
    EXPECT_EQ(r.error().remedy, "buy one");
    EXPECT_LE(decode_abort(encode_abort({std::string(100'000, 'x'), ""})).what.size(), kMaxText);
    EXPECT_EQ(decode_abort(Bytes{0xff, 0xff}).what, "it gave no reason");
}

// --- hostile values ----------------------------------------------------------------------------------------------

TEST(Stream, HellosThatPromiseNonsenseAreRefused) {
    const auto refused = [](const HelloRecord& h) { return !decode_hello(encode_hello(h)); };
    EXPECT_FALSE(refused({kStreamVersion, 0, 2, token()}));
    EXPECT_TRUE(refused({kStreamVersion + 1, 0, 2, token()}));
    EXPECT_TRUE(refused({kStreamVersion, 3, 2, token()}));
    EXPECT_TRUE(refused({kStreamVersion, 0, 0, token()}));
    EXPECT_TRUE(refused({kStreamVersion, 0, kMaxChannels + 1, token()}));
    EXPECT_TRUE(refused({kStreamVersion, ~0u, ~0u, token()}));
    const auto version = decode_hello(encode_hello({9, 0, 2, token()}));
    EXPECT_NE(version.error().what.find("stream version 9, this host speaks 2"), std::string::npos);
}

TEST(Stream, MachinesOfImpossibleShapeAreRefused) {
    const auto refused = [](auto&& spoil) {
        auto s = machine();
        spoil(s);
        return !decode_machine(encode_machine(s));
    };
    EXPECT_TRUE(refused([](auto& s) { s.vcpus.clear(); }));
    EXPECT_TRUE(refused([](auto& s) { s.vcpus[0].power = static_cast<abi::PowerState>(3); }));
    EXPECT_TRUE(refused([](auto& s) { s.vcpus.pop_back(), s.vcpus.clear(); }));
    EXPECT_FALSE(decode_machine({}));
    EXPECT_FALSE(decode_device(encode_device({"", {}})));
    EXPECT_FALSE(decode_device(encode_device({std::string(129, 'n'), {}})));
    EXPECT_FALSE(decode_device(encode_device({"n", Bytes(kMaxDeviceState + 1)})));
}

TEST(Stream, TruncatedAndMutatedMachinesNeverCrashTheReader) {
    const Bytes good = encode_machine(machine());
    for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(decode_machine(View(good).first(n))) << n;
    std::mt19937 random(17);
    for (int n = 0; n < 5'000; ++n) {
        Bytes bad = good;
        for (unsigned k = 1 + random() % 8; k > 0; --k)
            bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
        if (const auto r = decode_machine(bad)) {
            EXPECT_LE(r->vcpus.size(), abi::kMaxVcpus);
        }
    }
}

TEST(Stream, TokensAreRandomComparedWholeAndReadStrictly) {
    const Token a = random_token(), b = random_token();
    EXPECT_FALSE(same_token(a, b));
    Token c = a;
    EXPECT_TRUE(same_token(a, c));
    for (std::size_t i = 0; i < c.size(); ++i) {
        c[i] ^= 1;
        EXPECT_FALSE(same_token(a, c)) << i;
        c[i] ^= 1;
    }
    Token back{};
    EXPECT_TRUE(from_hex(to_hex(a), std::span<std::uint8_t>(back)));
    EXPECT_TRUE(same_token(a, back));
    for (const std::string bad : {"", "00", "zz", "../../etc/passwd"})
        EXPECT_FALSE(from_hex(bad, std::span<std::uint8_t>(back)));
    EXPECT_FALSE(from_hex(to_hex(a) + "00", std::span<std::uint8_t>(back)));
    std::string upper = to_hex(a);
    upper[0] = 'G';
    EXPECT_FALSE(from_hex(upper, std::span<std::uint8_t>(back)));
}

}  // namespace
}  // namespace proa::migrate
