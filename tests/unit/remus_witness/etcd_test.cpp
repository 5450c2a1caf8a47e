// EtcdWitness against a real etcd: what only time, threads and lost messages show.
#include <gtest/gtest.h>

#include <latch>

#include "shared_etcd.hpp"
#include "tests/support/http_server.hpp"

namespace proa::remus {
namespace {

using namespace std::chrono_literals;
using Answer = Witness::Answer;

struct RealEtcd : testing::Test {
    void SetUp() override { ASSERT_TRUE(test::shared_etcd().up()) << test::shared_etcd().why(); }
    static std::unique_ptr<Witness> witness() {
        return *make_witness(test::shared_etcd().spec(), test::kPatience);
    }
    std::string guest =
        std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + std::to_string(::getpid());
    const std::string a_ = std::string(64, 'a'), b_ = std::string(64, 'b');
};

TEST_F(RealEtcd, ALeaseThatNobodyRenewsRunsOutAndTheBackupTakesOver) {
    auto a = witness(), b = witness();
    const auto first = a->claim(guest, "A", a_, 2s, 0);
    ASSERT_TRUE(first && first->held);
    std::optional<Held> next;
    EXPECT_TRUE(test::eventually([&] {
        const auto c = b->claim(guest, "B", b_, 60s, first->held->term);
        if (c && c->held) next = c->held;
        return next.has_value();
    }));
    ASSERT_TRUE(next);
    EXPECT_EQ(next->term, first->held->term) << "it continues the term";
    EXPECT_EQ(*a->renew(*first->held), Answer::Lost);
    EXPECT_EQ(*a->settle(guest, "A", a_, *first->held), Answer::Contested);
    EXPECT_EQ(*b->renew(*next), Answer::Yes);
}
TEST_F(RealEtcd, ARenewalBeginsTheLeaseAnew) {
    auto a = witness();
    const auto c = a->claim(guest, "A", a_, 30s, 0);
    ASSERT_TRUE(c && c->held);
    auto raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    const auto left = [&] {
        EtcdCall call(*raw, test::kPatience);
        const auto r = call.post("/v3/lease/timetolive", {{"ID", std::to_string(c->held->lease)}});
        return r ? number_at(r->body, "TTL").value_or(0) : 0;
    };
    ASSERT_TRUE(test::eventually([&] { return left() <= 28; }));
    EXPECT_TRUE(test::eventually([&] { return *a->renew(*c->held) == Answer::Yes && left() >= 29; }));
}
TEST_F(RealEtcd, ATtlThatIsNotWholeSecondsIsRoundedUp) {
    auto a = witness();
    const auto c = a->claim(guest, "A", a_, 60'001ms, 0);
    ASSERT_TRUE(c && c->held);
    auto raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    EtcdCall call(*raw, test::kPatience);
    const auto r = call.post("/v3/lease/timetolive", {{"ID", std::to_string(c->held->lease)}});
    ASSERT_TRUE(r);
    EXPECT_EQ(number_at(r->body, "grantedTTL"), 61u);
}
TEST_F(RealEtcd, OfManyClaimersAtOnceExactlyOneWins) {
    constexpr int kClaimers = 4;
    for (int round = 0; round < 5; ++round) {
        const std::string g = guest + "-" + std::to_string(round);
        std::latch start(kClaimers);
        std::vector<Witness::Claim> claims(kClaimers);
        std::vector<std::thread> threads;
        for (int i = 0; i < kClaimers; ++i)
            threads.emplace_back([&, i] {
                auto w = witness();
                start.arrive_and_wait();
                if (auto c = w->claim(g, "host", std::string(64, static_cast<char>('a' + i)), 60s, 0))
                    claims[i] = *c;
            });
        for (auto& t : threads) t.join();
        int winner = -1, winners = 0;
        for (int i = 0; i < kClaimers; ++i)
            if (claims[i].held) ++winners, winner = i;
        ASSERT_EQ(winners, 1);
        for (int i = 0; i < kClaimers; ++i) {
            if (i == winner) continue;
            EXPECT_EQ(claims[i].holder.session, std::string(64, static_cast<char>('a' + winner)));
            EXPECT_EQ(claims[i].holder.term, claims[winner].held->term);
        }
    }
}
TEST_F(RealEtcd, AnExpiredHolderAndAClaimerNeverBothGetTheKey) {
    auto raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    for (int round = 0; round < 8; ++round) {
        const std::string g = guest + "-" + std::to_string(round);
        auto a = witness(), b = witness();
        const auto first = a->claim(g, "A", a_, 60s, 0);
        ASSERT_TRUE(first && first->held);
        EtcdCall call(*raw, test::kPatience);
        ASSERT_TRUE(call.post("/v3/lease/revoke", {{"ID", std::to_string(first->held->lease)}}));
        std::latch start(2);
        bool settled = false, claimed = false;
        std::thread other([&] {
            start.arrive_and_wait();
            const auto c = b->claim(g, "B", b_, 60s, first->held->term);
            claimed = c && c->held;
        });
        start.arrive_and_wait();
        const auto s = a->settle(g, "A", a_, *first->held);
        settled = s && *s == Answer::Yes;
        other.join();
        EXPECT_NE(settled, claimed) << "exactly one of them";
    }
}
TEST_F(RealEtcd, ARecordWrittenBySomebodyElseIsAnErrorWithARemedy) {
    auto raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    int i = 0;
    for (const std::string value :
         {"", "hello", "[]", "{}", R"({"host":"A"})", R"({"host":1,"session":"s"})",
          R"({"host":"A","session":"s","settled":1})", R"({"host":"A","session":"s","settled":true})",
          R"({"host":"A","session":"s","settled":true,"term":-1})"}) {
        const std::string g = guest + "-" + std::to_string(i++);
        EtcdCall call(*raw, test::kPatience);
        ASSERT_TRUE(call.post(
            "/v3/kv/put", {{"key", to_base64("/proa/guests/" + g + "/holder")}, {"value", to_base64(value)}}));
        auto a = witness();
        const auto l = a->look(g);
        ASSERT_FALSE(l) << value;
        EXPECT_FALSE(l.error().remedy.empty());
        EXPECT_FALSE(a->claim(g, "A", a_, 60s, 0)) << value;
        EXPECT_FALSE(a->renew({1, 0, g})) << value;
        EXPECT_FALSE(a->settle(g, "A", a_, {1, 0, g})) << value;
        EXPECT_FALSE(a->release(g, a_)) << value;
    }
}
TEST_F(RealEtcd, AWitnessThatHasForgottenTheGuestDecidesNothingUntilItsOperatorDoes) {
    auto a = witness();
    const auto c = a->claim(guest, "A", a_, 60s, 0);
    ASSERT_TRUE(c && c->held);
    auto raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    EtcdCall call(*raw, test::kPatience);
    for (const char* leaf : {"/holder", "/last"})
        ASSERT_TRUE(call.post("/v3/kv/deleterange", {{"key", to_base64("/proa/guests/" + guest + leaf)}}));
    const auto settled = a->settle(guest, "A", a_, *c->held);
    ASSERT_FALSE(settled) << "neither lost (it may be the only copy) nor ours (it may be the second)";
    EXPECT_FALSE(a->claim(guest, "B", b_, 60s, c->held->term));

    // The remedy ends with a command: etcdctl put KEY 'VALUE'.
    const std::string& remedy = settled.error().remedy;
    const auto quote = remedy.find(" '");
    ASSERT_NE(quote, std::string::npos);
    const std::string value = remedy.substr(quote + 2, remedy.rfind('\'') - quote - 2);
    EXPECT_NE(remedy.find("etcdctl put /proa/guests/" + guest + "/holder"), std::string::npos) << remedy;
    ASSERT_TRUE(call.post(
        "/v3/kv/put", {{"key", to_base64("/proa/guests/" + guest + "/holder")}, {"value", to_base64(value)}}));
    const auto decided = a->settle(guest, "A", a_, *c->held);
    ASSERT_TRUE(decided) << decided.error().what;
    EXPECT_EQ(*decided, Answer::Yes);
    EXPECT_EQ(*a->renew(*c->held), Answer::Yes);
}
TEST_F(RealEtcd, AKeyWhoseRecordOfTheLastClaimerWasDeletedCanStillBeSettled) {
    auto a = witness();
    const auto c = a->claim(guest, "A", a_, 60s, 0);
    ASSERT_TRUE(c && c->held);
    auto raw = *EtcdEndpoints::parse(test::shared_etcd().spec());
    EtcdCall call(*raw, test::kPatience);
    ASSERT_TRUE(call.post("/v3/kv/deleterange", {{"key", to_base64("/proa/guests/" + guest + "/last")}}));
    EXPECT_EQ(*a->settle(guest, "A", a_, *c->held), Answer::Yes);
    EXPECT_TRUE((*a->look(guest))->settled);
}

// Stands before the real etcd and keeps the answer to the n-th request of a kind to itself.
struct Swallower {
    std::unique_ptr<EtcdEndpoints> real = *EtcdEndpoints::parse(test::shared_etcd().spec());
    std::atomic<int> countdown;
    test::HttpServer server;
    explicit Swallower(int which)
        : countdown(which), server([this](const auto& r, test::Socket& s) { return pass(r, s); }) {}
    bool pass(const test::HttpServer::Request& r, test::Socket& s) {
        EtcdCall call(*real, test::kPatience);
        const auto answer = call.post(r.path, Json::parse(r.body));
        if (!answer || countdown-- == 0) return false;
        const std::string bytes = test::http_answer(answer->body.dump());
        return s.write(bytes.data(), bytes.size());
    }
};

// A claim's requests: read, grant, change. Whichever answer is lost, the next call finds out.
TEST_F(RealEtcd, AClaimWhoseAnswerWasLostIsFoundAgain) {
    for (int lost = 0; lost < 3; ++lost) {
        const std::string g = guest + "-" + std::to_string(lost);
        Swallower way(lost);
        auto a = *make_witness(way.server.spec(), test::kPatience);
        EXPECT_FALSE(a->claim(g, "A", a_, 60s, 0)) << lost;
        const auto there = witness()->look(g);
        ASSERT_TRUE(there);
        EXPECT_EQ(there->has_value(), lost == 2) << "the change took effect";
        const auto again = a->claim(g, "A", a_, 60s, 0);
        ASSERT_TRUE(again && again->held);
        if (*there) {
            EXPECT_EQ(again->held->term, (*there)->term);
        }
        EXPECT_EQ(*a->renew(*again->held), Answer::Yes);
    }
}
TEST_F(RealEtcd, ASettlementAndAReleaseWhoseAnswersWereLostAreFoundAgain) {
    const auto c = witness()->claim(guest, "A", a_, 60s, 0);
    ASSERT_TRUE(c && c->held);
    {
        Swallower way(0);
        auto a = *make_witness(way.server.spec(), test::kPatience);
        EXPECT_FALSE(a->settle(guest, "A", a_, *c->held));
        EXPECT_EQ(*a->settle(guest, "A", a_, *c->held), Answer::Yes);
    }
    Swallower way(1);  // release: read, change
    auto a = *make_witness(way.server.spec(), test::kPatience);
    EXPECT_FALSE(a->release(guest, a_));
    EXPECT_EQ(*a->release(guest, a_), Answer::Yes);
}
// Two endpoints of which the first swallows an answer: the second is asked within the same call, and the effect is one.
TEST_F(RealEtcd, ACallThatLosesAnAnswerIsRepeatedAtTheNextEndpoint) {
    for (int lost = 0; lost < 3; ++lost) {
        Swallower way(lost);
        const std::string g = guest + "-" + std::to_string(lost);
        const std::string spec = way.server.spec() + ",127.0.0.1:" + std::to_string(test::shared_etcd().port());
        auto a = *make_witness(spec, test::kPatience);
        const auto c = a->claim(g, "A", a_, 60s, 0);
        ASSERT_TRUE(c && c->held) << (c ? "refused" : c.error().what);
        EXPECT_EQ(*a->renew(*c->held), Answer::Yes);
    }
}

}  // namespace
}  // namespace proa::remus
