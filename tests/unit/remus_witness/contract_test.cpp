// What remus/witness.hpp promises, of a real etcd and of the fake that everybody else's tests rely on.
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "shared_etcd.hpp"
#include "tests/support/fake_witness.hpp"

namespace proa::remus {
namespace {

using namespace std::chrono_literals;
using Answer = Witness::Answer;
constexpr auto kTtl = 60s;  // no lease runs out by itself here
const std::string kA(64, 'a'), kB(64, 'b'), kC(64, 'c');

struct Subject {
    virtual ~Subject() = default;
    virtual Witness& host(int i) = 0;
    virtual void run_out(const Held& h) = 0;  // of its lease
    virtual void delete_key(const std::string& guest) = 0;
};

struct FakeSubject final : Subject {
    test::WitnessService service;
    test::FakeWitness hosts[2]{test::FakeWitness{service}, test::FakeWitness{service}};
    Witness& host(int i) override { return hosts[i]; }
    void run_out(const Held&) override { service.advance(kTtl); }
    void delete_key(const std::string& guest) override { service.delete_key(guest); }
};

struct EtcdSubject final : Subject {
    std::unique_ptr<Witness> hosts[2];
    std::unique_ptr<EtcdEndpoints> raw;
    EtcdSubject() {
        for (auto& h : hosts) h = *make_witness(test::shared_etcd().spec(), test::kPatience);
        raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    }
    Witness& host(int i) override { return *hosts[i]; }
    // What etcd does with a lease that has run out, at once.
    void run_out(const Held& h) override {
        EtcdCall call(*raw, test::kPatience);
        const auto r = call.post("/v3/lease/revoke", {{"ID", std::to_string(h.lease)}});
        ASSERT_TRUE(r) << r.error().what;
        ASSERT_FALSE(r->not_found);
    }
    void delete_key(const std::string& guest) override {
        EtcdCall call(*raw, test::kPatience);
        const auto r =
            call.post("/v3/kv/deleterange", {{"key", to_base64("/proa/guests/" + guest + "/holder")}});
        ASSERT_TRUE(r) << r.error().what;
    }
};

struct WitnessContract : testing::TestWithParam<bool> {
    void SetUp() override {
        if (!GetParam()) {
            subject = std::make_unique<FakeSubject>();
            return;
        }
        ASSERT_TRUE(test::shared_etcd().up()) << test::shared_etcd().why();
        subject = std::make_unique<EtcdSubject>();
    }
    Witness& a() { return subject->host(0); }
    Witness& b() { return subject->host(1); }
    Held claimed(Witness& w, const std::string& host, const std::string& session, std::uint64_t after = 0) {
        const auto c = w.claim(guest, host, session, kTtl, after);
        EXPECT_TRUE(c && c->held) << (c ? "refused" : c.error().what);
        return c && c->held ? *c->held : Held{};
    }
    std::optional<Holder> refused(Witness& w, const std::string& session, std::uint64_t after = 0) {
        const auto c = w.claim(guest, "B", session, kTtl, after);
        EXPECT_TRUE(c) << c.error().what;
        EXPECT_TRUE(c && !c->held);
        return c && !c->held ? std::optional(c->holder) : std::nullopt;
    }
    std::string guest = std::string("guest-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
                        "-" + std::to_string(::getpid());
    std::unique_ptr<Subject> subject;

    WitnessContract() { std::replace(guest.begin(), guest.end(), '/', '-'); }
};
INSTANTIATE_TEST_SUITE_P(All, WitnessContract, testing::Values(false, true),
                         [](const auto& i) { return i.param ? "Etcd" : "Fake"; });

TEST_P(WitnessContract, NobodyHoldsAGuestThatWasNeverClaimed) {
    const auto l = a().look(guest);
    ASSERT_TRUE(l) << l.error().what;
    EXPECT_FALSE(*l);
}
TEST_P(WitnessContract, TheClaimerIsTheHolder) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_NE(h.term, 0u);
    EXPECT_NE(h.lease, 0u);
    EXPECT_EQ(h.guest, guest);
    const auto l = b().look(guest);
    ASSERT_TRUE(l && *l);
    EXPECT_EQ((*l)->host, "A");
    EXPECT_EQ((*l)->session, kA);
    EXPECT_EQ((*l)->term, h.term);
    EXPECT_FALSE((*l)->settled);
}
TEST_P(WitnessContract, ASecondClaimerIsRefusedAndToldWhoHasIt) {
    const Held h = claimed(a(), "A", kA);
    const auto r = refused(b(), kB);
    ASSERT_TRUE(r);
    EXPECT_EQ(r->host, "A");
    EXPECT_EQ(r->session, kA);
    EXPECT_EQ(r->term, h.term);
    EXPECT_FALSE(r->settled);
}
TEST_P(WitnessContract, ClaimingAgainInOneSessionFindsTheKeyWithANewLease) {
    const Held first = claimed(a(), "A", kA), second = claimed(a(), "A", kA);
    EXPECT_EQ(second.term, first.term);
    EXPECT_NE(second.lease, first.lease);
    EXPECT_EQ(*a().renew(second), Answer::Yes);
    EXPECT_EQ(*a().renew(first), Answer::Lost) << "that lease keeps nothing any more";
    EXPECT_EQ(*a().settle(guest, "A", kA, second), Answer::Yes);
}
TEST_P(WitnessContract, ALeaseThatHasRunOutIsLostAndTheNextTermIsLarger) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().renew(h), Answer::Yes);
    subject->run_out(h);
    EXPECT_EQ(*a().renew(h), Answer::Lost);
    EXPECT_FALSE(*b().look(guest));
    const Held next = claimed(b(), "B", kB);
    EXPECT_GT(next.term, h.term);
    EXPECT_EQ(*a().renew(h), Answer::Lost);
    EXPECT_EQ(*b().renew(next), Answer::Yes);
}
TEST_P(WitnessContract, ARenewalFindsThatTheKeyWasDeletedByHand) {
    const Held h = claimed(a(), "A", kA);
    subject->delete_key(guest);
    EXPECT_EQ(*a().renew(h), Answer::Lost);
    const Held next = claimed(b(), "B", kB);
    EXPECT_EQ(*a().renew(h), Answer::Lost) << "its lease lives, the key is another's";
    EXPECT_EQ(*b().renew(next), Answer::Yes);
}
TEST_P(WitnessContract, ASettledKeyOutlivesItsLeaseAndIsRefusedToOthers) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    subject->run_out(h);
    EXPECT_EQ(*a().renew(h), Answer::Yes);
    const auto r = refused(b(), kB);
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->settled);
    EXPECT_EQ(r->host, "A");
    EXPECT_EQ(r->term, h.term) << "settling doesn't change the term";
}
TEST_P(WitnessContract, SettlingIsIdempotent) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    const Held again = claimed(a(), "A", kA);
    EXPECT_GT(again.term, h.term) << "a new beginning: the old term is closed";
    EXPECT_EQ(*a().renew(again), Answer::Yes);
    EXPECT_FALSE((*b().look(guest))->settled);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Lost);
}
TEST_P(WitnessContract, AnExpiredKeyThatNobodyTookCanBeSettled) {
    const Held h = claimed(a(), "A", kA);
    subject->run_out(h);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    const auto r = refused(b(), kB);
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->settled);
    EXPECT_EQ(r->term, h.term);
    EXPECT_EQ(*a().release(guest, kA), Answer::Yes);
    EXPECT_GT(claimed(b(), "B", kB).term, h.term);
}
TEST_P(WitnessContract, AnExpiredKeyThatAnotherHoldsCannotBeSettled) {
    const Held h = claimed(a(), "A", kA);
    subject->run_out(h);
    const Held next = claimed(b(), "B", kB);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Lost);
    EXPECT_EQ((*b().look(guest))->term, next.term);
}
TEST_P(WitnessContract, AnExpiredKeyThatAnotherHasHeldMeanwhileCannotBeSettled) {
    const Held h = claimed(a(), "A", kA);
    subject->run_out(h);
    const Held next = claimed(b(), "B", kB);
    subject->run_out(next);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Lost) << "B may have run the guest: A's copy is old";
    EXPECT_EQ(*b().settle(guest, "B", kB, next), Answer::Yes);
}
TEST_P(WitnessContract, ASettlementThatComesAfterTheReleaseChangesNothing) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    EXPECT_EQ(*a().release(guest, kA), Answer::Yes);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Lost);
    EXPECT_FALSE(*a().look(guest));
}
TEST_P(WitnessContract, AReleasedKeyIsFreeAndReleasingIsIdempotent) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().release(guest, kA), Answer::Yes);
    EXPECT_EQ(*a().release(guest, kA), Answer::Yes);
    EXPECT_EQ(*a().renew(h), Answer::Lost);
    EXPECT_GT(claimed(b(), "B", kB).term, h.term);
}
TEST_P(WitnessContract, NobodyReleasesAnothersKey) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*b().release(guest, kB), Answer::Lost);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    EXPECT_EQ(*b().release(guest, kB), Answer::Lost);
    EXPECT_EQ((*b().look(guest))->session, kA);
}
TEST_P(WitnessContract, ABackupFollowsThePrimaryWhoseLeaseHasRunOut) {
    const Held h = claimed(a(), "A", kA);
    const auto r = refused(b(), kB, h.term);
    ASSERT_TRUE(r);
    EXPECT_TRUE(!r->settled && r->term == h.term) << "asking again may help";
    subject->run_out(h);
    const Held next = claimed(b(), "B", kB, h.term);
    EXPECT_EQ(claimed(b(), "B", kB, h.term).term, next.term) << "also when it asks again";
}
TEST_P(WitnessContract, ABackupFollowsThePrimaryThatHasReleasedTheKey) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().release(guest, kA), Answer::Yes);
    EXPECT_EQ(claimed(b(), "B", kB, h.term).term, h.term) << "it continues the term";
}
TEST_P(WitnessContract, AClaimDecidesNothingSettlingDoes) {
    const Held h = claimed(a(), "A", kA);
    subject->run_out(h);
    const Held next = claimed(b(), "B", kB, h.term);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Contested) << "B may settle, or not";
    subject->run_out(next);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    EXPECT_EQ(*b().settle(guest, "B", kB, next), Answer::Lost);
}
TEST_P(WitnessContract, ABackupThatHasSettledHasTheGuestForGood) {
    const Held h = claimed(a(), "A", kA);
    subject->run_out(h);
    const Held next = claimed(b(), "B", kB, h.term);
    subject->run_out(next);
    EXPECT_EQ(*b().settle(guest, "B", kB, next), Answer::Yes) << "the term is still open";
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Lost);
    EXPECT_EQ(*b().settle(guest, "B", kB, next), Answer::Yes);
}
TEST_P(WitnessContract, ABackupOfAnEarlierProtectionIsRefusedForGood) {
    const Held old = claimed(a(), "A", kA);
    subject->run_out(old);
    const Held later = claimed(a(), "A", kC);  // protected again, by another backup
    subject->run_out(later);
    const auto r = refused(b(), kB, old.term);
    ASSERT_TRUE(r);
    EXPECT_NE(r->term, old.term) << "asking again can't help";
}
TEST_P(WitnessContract, ABackupIsRefusedForGoodOnceItsPrimaryHasSettled) {
    const Held h = claimed(a(), "A", kA);
    EXPECT_EQ(*a().settle(guest, "A", kA, h), Answer::Yes);
    EXPECT_EQ(*a().release(guest, kA), Answer::Yes);  // the guest was shut down, say
    const auto r = refused(b(), kB, h.term);
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->settled || r->term != h.term);
    EXPECT_FALSE(*b().look(guest));
}

}  // namespace
}  // namespace proa::remus
