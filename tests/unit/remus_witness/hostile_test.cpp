// EtcdWitness against servers that are slow, broken, malicious or not etcd: an error, in time, and never anything else.
#include <gtest/gtest.h>

#include "remus/etcd_witness.hpp"
#include "remus/no_witness.hpp"
#include "tests/support/http_server.hpp"

namespace proa::remus {
namespace {

using namespace std::chrono_literals;
using test::http_answer;
using test::HttpServer;
const std::string kSession(64, 'a');

// Each call must end in an error with a remedy.
void expect_errors(Witness& w, const std::string& why) {
    const auto error = [&](const char* call, const auto& r) {
        ASSERT_FALSE(r) << call << ": " << why;
        EXPECT_FALSE(r.error().what.empty()) << call << ": " << why;
        EXPECT_FALSE(r.error().remedy.empty()) << call << ": " << why;
        for (const char c : r.error().what) EXPECT_TRUE(c >= ' ' && c <= '~') << call << ": " << why;
    };
    error("look", w.look("g"));
    error("claim", w.claim("g", "A", kSession, 3s, 0));
    error("renew", w.renew({7, 8, "g"}));
    error("renew without a lease", w.renew({7, 0, "g"}));
    error("settle", w.settle("g", "A", kSession, {7, 8, "g"}));
    error("release", w.release("g", kSession));
}
std::unique_ptr<Witness> witness(const std::string& spec, std::chrono::milliseconds timeout = 60s) {
    auto w = make_witness(spec, timeout);
    EXPECT_TRUE(w) << w.error().what;
    return std::move(*w);
}

TEST(HostileEtcd, WhatIsNotHttpOrNotJsonIsAnError) {
    const std::string nested(1000, '[');
    for (const std::string& bytes : {
             std::string("\0\1\2\3 no HTTP\r\n\r\n", 17),
             std::string("SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n"),
             std::string("HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
             std::string("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
             std::string("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}"),
             std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
             std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}"),
             std::string("HTTP/1.1 100 Continue\r\n\r\n"),
             http_answer(""),
             http_answer("<html>It works!</html>"),
             http_answer("{\"succeeded\":tru"),
             http_answer(std::string("\xff\xfe\0", 3)),
             http_answer(nested + std::string(1000, ']')),
             http_answer("{\"responses\":" + nested),
             http_answer("[]"),
             http_answer("null"),
             http_answer("{}"),
         }) {
        HttpServer server(bytes);
        expect_errors(*witness(server.spec()), bytes.substr(0, 60));
    }
}
TEST(HostileEtcd, AnAnswerThatIsNotATransactionsIsAnError) {
    const std::string good_kv = R"("key":"YQ==","create_revision":"7","mod_revision":"7","version":"1")";
    const auto with_kv = [](const std::string& kv) {
        return R"({"responses":[{"response_range":{"kvs":[{)" + kv + R"(}]}},{"response_range":{}}]})";
    };
    for (const std::string& body : {
             std::string(R"({"responses":{}})"),
             std::string(R"({"responses":[]})"),
             std::string(R"({"responses":[1,2]})"),
             std::string(R"({"responses":[{},{}]})"),
             std::string(R"({"responses":[{"response_range":[]},{"response_range":{}}]})"),
             std::string(R"({"responses":[{"response_range":{"kvs":{}}},{"response_range":{}}]})"),
             std::string(R"({"responses":[{"response_range":{"kvs":[]}},{"response_range":{}}]})"),
             std::string(R"({"responses":[{"response_range":{"kvs":[3]}},{"response_range":{}}]})"),
             std::string(R"({"responses":[{"response_range":{"kvs":[{},{}]}},{"response_range":{}}]})"),
             std::string(R"({"succeeded":"yes","responses":[]})"),
             std::string(R"({"succeeded":true})"),
             std::string(R"({"succeeded":true,"header":7})"),
             std::string(R"({"succeeded":true,"header":{}})"),
             std::string(R"({"succeeded":true,"header":{"revision":"-5"}})"),
             std::string(R"({"succeeded":true,"header":{"revision":"99999999999999999999999"}})"),
             with_kv(""),
             with_kv(good_kv),
             with_kv(good_kv + R"(,"value":7)"),
             with_kv(good_kv + R"(,"value":"###")"),
             with_kv(good_kv + R"(,"value":"====")"),
             with_kv(good_kv + R"(,"value":"eyJob3N0IjoiQSJ9")"),  // {"host":"A"}
             with_kv(good_kv + R"(,"value":"W1tbW1tb")"),          // [[[[[[
             with_kv(R"("key":"YQ==","value":"e30=")"),            // no revisions
             with_kv(
                 R"("create_revision":"9","mod_revision":"7","value":"eyJob3N0IjoiQSIsInNlc3Npb24iOiJzIn0=")"),
             with_kv(
                 R"("create_revision":true,"mod_revision":"7","value":"eyJob3N0IjoiQSIsInNlc3Npb24iOiJzIn0=")"),
             with_kv(
                 R"("create_revision":7.5,"mod_revision":"9","value":"eyJob3N0IjoiQSIsInNlc3Npb24iOiJzIn0=")"),
         }) {
        HttpServer server(http_answer(body));
        expect_errors(*witness(server.spec()), body);
    }
}
TEST(HostileEtcd, ErrorsOfTheServerAreErrors) {
    for (const std::string& bytes : {
             http_answer("", "500 Internal Server Error"),
             http_answer("{}", "503 Service Unavailable"),
             http_answer(R"({"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14})",
                         "503 Service Unavailable"),
             http_answer(R"({"error":"x","message":"user name is empty","code":3})", "400 Bad Request"),
             http_answer(R"({"error":{"grpc_code":13,"http_code":500,"message":"boom\u0000\u001b[2J"}})"),
             http_answer(R"({"error":7,"message":{"a":1},"code":"5"})", "404 Not Found"),
         }) {
        HttpServer server(bytes);
        expect_errors(*witness(server.spec()), bytes.substr(0, 40));
    }
}
TEST(HostileEtcd, AnEndlessAnswerIsNotRead) {
    const auto flood = [](std::string head, std::string piece) {
        return [head = std::move(head), piece = std::move(piece)](const HttpServer::Request&, test::Socket& s) {
            if (!s.write(head.data(), head.size())) return false;
            while (s.write(piece.data(), piece.size())) {
            }
            return false;
        };
    };
    const std::string kilobyte(1024, 'x');
    HttpServer header(flood("HTTP/1.1 200 OK\r\n", "X-More: " + kilobyte + "\r\n"));
    HttpServer chunks(
        flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "400\r\n" + kilobyte + "\r\n"));
    HttpServer length(flood("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", kilobyte));
    HttpServer until_end(flood("HTTP/1.1 200 OK\r\n\r\n", kilobyte));
    for (auto* s : {&header, &chunks, &length, &until_end}) expect_errors(*witness(s->spec()), "flood");
}
TEST(HostileEtcd, AServerThatSaysNothingIsGivenUpInTime) {
    HttpServer server([](const HttpServer::Request&, test::Socket& s) {
        char c = 0;
        return s.read(&c, 1);  // until the client gives up
    });
    expect_errors(*witness(server.spec(), 50ms), "silence");
}
// Each byte comes well within the timeout, the whole never: only a bound on the whole call ends it.
TEST(HostileEtcd, AServerThatDribblesIsGivenUpInTime) {
    HttpServer server([](const HttpServer::Request&, test::Socket& s) {
        const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n";
        if (!s.write(head.data(), head.size())) return false;
        while (s.write(" ", 1)) std::this_thread::sleep_for(10ms);
        return false;
    });
    const auto begun = std::chrono::steady_clock::now();
    const auto r = witness(server.spec(), 100ms)->look("g");
    EXPECT_FALSE(r);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 60s) << "600 s is what the whole answer would take";
}
TEST(HostileEtcd, AnAnswerThatIsCutOffIsAnError) {
    const std::string whole = http_answer(R"({"responses":[{"response_range":{}},{"response_range":{}}]})");
    for (std::size_t n : {std::size_t{0}, std::size_t{5}, std::size_t{30}, whole.size() - 1}) {
        HttpServer server([&](const HttpServer::Request&, test::Socket& s) {
            (void)s.write(whole.data(), n);
            return false;
        });
        expect_errors(*witness(server.spec()), "cut off after " + std::to_string(n));
    }
}
TEST(HostileEtcd, ARefusedConnectionAsksWhetherEtcdIsRunning) {
    const auto port = test::ListeningSocket().port();  // nobody listens there any more
    auto w = witness("etcd://127.0.0.1:" + std::to_string(port));
    expect_errors(*w, "nobody there");
    EXPECT_NE(w->look("g").error().remedy.find("is etcd running at 127.0.0.1:" + std::to_string(port)),
              std::string::npos);
}

// A plausible etcd, for one wrong answer at a time.
struct Plausible {
    std::string granted = R"({"ID":"77","TTL":"3"})", kept = R"({"result":{"ID":"8","TTL":"3"}})";
    std::string nothing =
        R"({"succeeded":true,"header":{"revision":"9"},"responses":[{"response_range":{}},{"response_range":{}}]})";
    std::string ours =
        R"({"succeeded":true,"header":{"revision":"9"},"responses":[{"response_range":{"kvs":[{"create_revision":"7",)"
        R"("mod_revision":"7","lease":"8","value":"eyJob3N0IjoiQSIsInNlc3Npb24iOiJzIn0="}]}},{"response_range":{}}]})";
    bool holds = false;
    HttpServer server{[this](const HttpServer::Request& r, test::Socket& s) {
        const std::string bytes = http_answer(r.path == "/v3/lease/grant"       ? granted
                                              : r.path == "/v3/lease/keepalive" ? kept
                                              : r.path == "/v3/lease/revoke"    ? "{}"
                                              : holds                           ? ours
                                                                                : nothing);
        return s.write(bytes.data(), bytes.size());
    }};
};
TEST(HostileEtcd, ALeaseShorterThanAskedForIsAnErrorAndALongerOneIsNot) {
    Plausible etcd;
    auto w = witness(etcd.server.spec());
    EXPECT_FALSE(w->claim("g", "A", kSession, 3001ms, 0)) << "3 s for 4 s";
    const auto exact = w->claim("g", "A", kSession, 3s, 0);
    ASSERT_TRUE(exact && exact->held) << exact.error().what;
    EXPECT_EQ(exact->held->lease, 77u);
    EXPECT_EQ(exact->held->term, 9u);
    EXPECT_TRUE(w->claim("g", "A", kSession, 1s, 0)) << "3 s for 1 s";
}
TEST(HostileEtcd, AGrantThatIsNotOneIsAnError) {
    for (const char* bad : {"{}", R"({"ID":"0","TTL":"3"})", R"({"ID":"77"})", R"({"ID":[],"TTL":"3"})",
                            R"({"ID":"77","TTL":"-3"})"}) {
        Plausible etcd;
        etcd.granted = bad;
        EXPECT_FALSE(witness(etcd.server.spec())->claim("g", "A", kSession, 1s, 0)) << bad;
    }
}
TEST(HostileEtcd, ARenewalIsYesOnlyIfTheAnswerSaysSo) {
    Plausible etcd;
    etcd.holds = true;
    const Held held{7, 8, "g"};
    auto w = witness(etcd.server.spec());
    EXPECT_EQ(*w->renew(held), Witness::Answer::Yes);
    EXPECT_EQ(*w->renew({6, 8, "g"}), Witness::Answer::Lost) << "another term";
    for (const char* gone :
         {R"({"result":{"ID":"8","TTL":"0"}})", R"({"result":{"ID":"8"}})", R"({"error":"x","code":5})"}) {
        etcd.kept = gone;
        EXPECT_EQ(*w->renew(held), Witness::Answer::Lost) << gone;
    }
    for (const char* bad :
         {"{}", R"({"result":7})", R"({"result":{"TTL":"3"}})", R"({"result":{"ID":"9","TTL":"3"}})",
          R"({"result":{"ID":"8","TTL":"soon"}})", R"({"error":{"message":"x"}})"}) {
        etcd.kept = bad;
        EXPECT_FALSE(w->renew(held)) << bad;
    }
}
TEST(Endpoints, TheNextIsAskedWhenOneFailsAndTheOneThatAnsweredIsAskedFirst) {
    const auto dead = test::ListeningSocket().port();
    HttpServer broken(http_answer("{}", "500 Internal Server Error"));
    Plausible good;
    auto w =
        witness("etcd://127.0.0.1:" + std::to_string(dead) + ",127.0.0.1:" + std::to_string(broken.port()) +
                ",127.0.0.1:" + std::to_string(good.server.port()));
    EXPECT_TRUE(w->look("g"));
    EXPECT_EQ(broken.requests(), 1);
    EXPECT_TRUE(w->look("g"));
    EXPECT_EQ(broken.requests(), 1);
    EXPECT_EQ(good.server.requests(), 2);
}
TEST(Endpoints, OneThatSwallowsEverythingLeavesTimeForTheNext) {
    HttpServer silent([](const HttpServer::Request&, test::Socket& s) {
        char c = 0;
        return s.read(&c, 1);
    });
    Plausible good;
    auto w = witness(silent.spec() + ",127.0.0.1:" + std::to_string(good.server.port()), 500ms);
    // Half of the time is the second's; a machine so busy that this is too little gets more tries, each of them as fair.
    bool answered = false;
    for (int i = 0; i < 100 && !answered; ++i) answered = w->look("g").has_value();
    EXPECT_TRUE(answered);
}
TEST(Spec, WhatIsNotAWitnessIsRefusedWithTheSpelling) {
    for (const char* bad : {"", "etcd", "etcd://", "etcd:///", "etcd://host", "etcd://host:", "etcd://:2379",
                            "etcd://host:0", "etcd://host:65536", "etcd://host:12x", "etcd://127.0.0.1:2379,",
                            "etcd://127.0.0.1:2379,,127.0.0.1:1", "http://127.0.0.1:2379",
                            "etcd://127.0.0.1:2379/v3", "zookeeper://h:1", "None"}) {
        const auto w = make_witness(bad, 1s);
        ASSERT_FALSE(w) << bad;
        EXPECT_NE(w.error().remedy.find("etcd://HOST:PORT"), std::string::npos) << bad;
    }
}
TEST(Spec, AddressesOfBothKindsAreTaken) {
    EXPECT_TRUE(make_witness("etcd://127.0.0.1:2379,[::1]:2379", 1s));
}
TEST(Names, WhatCannotBeAKeyIsRefusedWithoutAskingAnybody) {
    Plausible etcd;
    auto w = witness(etcd.server.spec());
    for (const std::string& bad :
         {std::string(), std::string("a/b"), std::string("a b"), std::string("\xff"), std::string(256, 'x')}) {
        EXPECT_FALSE(w->look(bad));
        EXPECT_FALSE(w->claim(bad, "A", kSession, 3s, 0));
        EXPECT_FALSE(w->claim("g", bad, kSession, 3s, 0));
        EXPECT_FALSE(w->claim("g", "A", bad, 3s, 0));
        EXPECT_FALSE(w->renew({1, 2, bad}));
        EXPECT_FALSE(w->settle(bad, "A", kSession, {1, 2, "g"}));
        EXPECT_FALSE(w->release(bad, kSession));
    }
    EXPECT_EQ(etcd.server.requests(), 0);
}
TEST(Base64, ThereAndBack) {
    for (const std::string& s :
         {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("\0\xff\0x", 4)})
        EXPECT_EQ(from_base64(to_base64(s)), s);
    EXPECT_EQ(to_base64("ab"), "YWI=");
    for (const char* bad : {"a", "abc", "a***", "YWI=YWI"}) EXPECT_FALSE(from_base64(bad)) << bad;
}
TEST(NoWitness, GrantsEverythingWithRisingTerms) {
    auto w = *make_witness("none", 1s);
    const auto a = w->claim("g", "A", "a", 1s, 0), b = w->claim("g", "B", "b", 1s, 0);
    ASSERT_TRUE(a->held && b->held);
    EXPECT_GT(b->held->term, a->held->term);
    const std::uint64_t future = b->held->term + 1'000'000'000'000;  // of a primary whose clock is ahead
    EXPECT_GT(w->claim("g", "C", "c", 1s, future)->held->term, future);
    EXPECT_EQ(*w->renew(*a->held), Witness::Answer::Yes);
    EXPECT_EQ(*w->settle("g", "A", "a", *a->held), Witness::Answer::Yes);
    EXPECT_EQ(*w->release("g", "a"), Witness::Answer::Yes);
    EXPECT_FALSE(*w->look("g"));
}

}  // namespace
}  // namespace proa::remus
