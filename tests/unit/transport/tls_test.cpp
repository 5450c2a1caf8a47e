// Who may talk to whom: every pairing of a dialler and a listener over loopback ends in an exchange or a clear refusal,
// and never in a wait without end.
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "tests/support/memory_stream.hpp"
#include "tests/support/socket.hpp"
#include "tests/support/temporary.hpp"
#include "transport/channel.hpp"
#include "transport/keys.hpp"

namespace proa::transport {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kType = kMandatory | 1;

ChannelOptions plain() {
    ChannelOptions o;
    o.io_timeout = 2s;
    return o;
}
ChannelOptions with(const Credentials& c) {
    ChannelOptions o = plain();
    o.tls = c;
    return o;
}

// One listener that answers each frame with the same payload, and what both sides made of one dial.
struct Meeting {
    Result<void> dialler;
    std::string listener;  // why it refused; empty if it didn't
};
Meeting meet(const ChannelOptions& dial_with, const ChannelOptions& listen_with,
             const std::string& host = "127.0.0.1") {
    std::promise<std::string> heard;
    auto said = heard.get_future();
    auto l = Listener::listen(
        "127.0.0.1", 0, listen_with,
        [&](std::unique_ptr<Channel> c) {
            auto f = c->receive();
            heard.set_value(f ? "" : f.error().what + f.error().remedy);
            if (f) (void)c->send(f->type, f->payload);
        },
        [&](const Error& e) { heard.set_value(e.what + e.remedy); });
    EXPECT_TRUE(l) << l.error().what;
    Meeting m;
    m.dialler = [&]() -> Result<void> {
        auto c = dial(host, (*l)->port(), dial_with);
        if (!c) return tl::unexpected(c.error());
        if (auto r = (*c)->send(kType, std::vector<std::uint8_t>{1, 2, 3}); !r) return r;
        auto f = (*c)->receive();
        if (!f) return tl::unexpected(f.error());
        EXPECT_EQ(f->payload, (std::vector<std::uint8_t>{1, 2, 3}));
        return {};
    }();
    const auto state = said.wait_for(8s);
    EXPECT_EQ(state, std::future_status::ready) << "the listener hangs";
    if (state == std::future_status::ready) m.listener = said.get();
    return m;
}

class Tls : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        ours_ = new test::TemporaryDirectory;
        theirs_ = new test::TemporaryDirectory;
        ASSERT_TRUE(init_keys(ours_->path(), {"127.0.0.1", "elsewhere.example"}));
        ASSERT_TRUE(init_keys(theirs_->path(), {"127.0.0.1"}));
        test::TemporaryDirectory& d = *ours_;
        std::filesystem::rename(d / "127.0.0.1", d / "good");
        ASSERT_TRUE(init_keys(d.path(), {"127.0.0.1"}, -1));
        std::filesystem::rename(d / "127.0.0.1", d / "expired");
    }
    static void TearDownTestSuite() {
        delete ours_;
        delete theirs_;
    }
    static Credentials good() { return Credentials::in(*ours_ / "good"); }
    static Credentials expired() { return Credentials::in(*ours_ / "expired"); }
    static Credentials elsewhere() { return Credentials::in(*ours_ / "elsewhere.example"); }
    static Credentials stranger() { return Credentials::in(*theirs_ / "127.0.0.1"); }
    // A stranger that trusts our CA: only the other side can refuse it.
    static Credentials intruder() {
        Credentials c = stranger();
        c.ca = good().ca;
        return c;
    }

  private:
    static inline test::TemporaryDirectory *ours_ = nullptr, *theirs_ = nullptr;
};

#define EXPECT_REFUSED(result, text)                                                             \
    do {                                                                                         \
        ASSERT_FALSE(result);                                                                    \
        EXPECT_NE((result).error().what.find(text), std::string::npos) << (result).error().what; \
        EXPECT_FALSE((result).error().remedy.empty()) << (result).error().what;                  \
    } while (false)

TEST_F(Tls, TheRightKeysExchangeFrames) {
    const auto m = meet(with(good()), with(good()));
    EXPECT_TRUE(m.dialler) << m.dialler.error().what;
    EXPECT_EQ(m.listener, "");
}

TEST_F(Tls, PlaintextWorksWhereBothSidesSaySo) {
    const auto m = meet(plain(), plain());
    EXPECT_TRUE(m.dialler) << m.dialler.error().what;
}

TEST_F(Tls, AListenerOfAnotherCaIsRefused) {
    const auto m = meet(with(good()), with(stranger()));
    EXPECT_REFUSED(m.dialler, "TLS with 127.0.0.1 failed");
    EXPECT_NE(m.listener, "");
}

TEST_F(Tls, ADiallerOfAnotherCaIsRefused) {
    const auto m = meet(with(intruder()), with(good()));
    EXPECT_FALSE(m.dialler);
    EXPECT_NE(m.listener.find("TLS with 127.0.0.1 failed"), std::string::npos) << m.listener;
}

TEST_F(Tls, AListenerThatIsNotTheHostDialledIsRefused) {
    const auto m = meet(with(good()), with(elsewhere()));
    EXPECT_REFUSED(m.dialler, "IP address mismatch");
}

TEST_F(Tls, AHostDialledByAnotherNameThanItsCertificatesIsRefused) {
    const auto m = meet(with(good()), with(good()), "localhost");
    EXPECT_REFUSED(m.dialler, "ostname mismatch");
}

TEST_F(Tls, ExpiredCertificatesAreRefusedOnEitherSide) {
    const auto listener = meet(with(good()), with(expired()));
    EXPECT_REFUSED(listener.dialler, "expired");
    const auto dialler = meet(with(expired()), with(good()));
    EXPECT_FALSE(dialler.dialler);
    EXPECT_NE(dialler.listener.find("expired"), std::string::npos) << dialler.listener;
}

TEST_F(Tls, ADiallerWithoutTlsIsRefusedAndTold) {
    const auto m = meet(plain(), with(good()));
    ASSERT_FALSE(m.dialler);
    EXPECT_NE(m.dialler.error().remedy.find("TLS"), std::string::npos) << m.dialler.error().what;
    EXPECT_NE(m.listener.find("TLS with 127.0.0.1 failed"), std::string::npos) << m.listener;
}

TEST_F(Tls, AListenerWithoutTlsIsRefusedAndTellsWhy) {
    const auto m = meet(with(good()), plain());
    EXPECT_REFUSED(m.dialler, "TLS with 127.0.0.1 failed");
    EXPECT_NE(m.listener.find("not a proa frame"), std::string::npos) << m.listener;
}

TEST_F(Tls, ASilentPeerIsGivenUpOn) {
    auto impatient = with(good());
    impatient.io_timeout = 300ms;
    std::promise<Error> refused;
    auto l = Listener::listen(
        "127.0.0.1", 0, impatient, [](auto) { FAIL() << "there was no handshake"; },
        [&](const Error& e) { refused.set_value(e); });
    ASSERT_TRUE(l);
    auto silent = dial("127.0.0.1", (*l)->port(), plain());  // connects and says nothing
    ASSERT_TRUE(silent);
    auto told = refused.get_future();
    ASSERT_EQ(told.wait_for(8s), std::future_status::ready);
    EXPECT_EQ(told.get().kind, ErrorKind::Tls);
}

TEST_F(Tls, ADribblingPeerIsGivenUpOnToo) {
    auto impatient = with(good());
    impatient.io_timeout = 500ms;
    std::promise<void> refused;
    auto l = Listener::listen(
        "127.0.0.1", 0, impatient, [](auto) { FAIL() << "there was no handshake"; },
        [&](const Error&) { refused.set_value(); });
    ASSERT_TRUE(l);
    auto dribbler = test::Socket::connect((*l)->port());
    ASSERT_TRUE(dribbler);
    auto told = refused.get_future();
    const std::uint8_t hello[] = {22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};  // of 512 bytes
    bool given_up = false;
    for (int i = 0; i < 60 && !given_up; ++i) {
        (void)dribbler->write(hello + std::min(i, 10), 1);
        given_up = told.wait_for(100ms) == std::future_status::ready;
    }
    EXPECT_TRUE(given_up);
}

TEST_F(Tls, ADiallerGivesUpOnASilentListener) {
    std::promise<void> end;
    auto l = Listener::listen("127.0.0.1", 0, plain(), [f = end.get_future().share()](auto) { f.wait(); });
    ASSERT_TRUE(l);
    auto impatient = with(good());
    impatient.io_timeout = 300ms;
    EXPECT_REFUSED(dial("127.0.0.1", (*l)->port(), impatient), "TLS with 127.0.0.1 failed");
    end.set_value();
}

TEST_F(Tls, NewKeysAreUsedFromTheNextConnectionOn) {
    test::TemporaryDirectory d;
    const auto install = [&](const Credentials& c) {
        std::filesystem::copy_file(c.ca, d / "ca.pem", std::filesystem::copy_options::overwrite_existing);
        std::filesystem::copy_file(c.certificate, d / "host.pem.new");
        std::filesystem::copy_file(c.key, d / "host.key.new");
        std::filesystem::rename(d / "host.pem.new", d / "host.pem");
        std::filesystem::rename(d / "host.key.new", d / "host.key");
    };
    const auto installed = with(Credentials::in(d.path()));
    install(good());
    for (int i = 0; i < 2; ++i) {
        const auto m = meet(installed, installed);
        EXPECT_TRUE(m.dialler) << m.dialler.error().what;
    }
    install(elsewhere());
    const auto m = meet(installed, installed);
    EXPECT_REFUSED(m.dialler, "IP address mismatch");
}

TEST_F(Tls, MissingKeysAreNamedBeforeAnyoneIsDialled) {
    const auto r = Listener::listen("127.0.0.1", 0, with(Credentials::in("/nonexistent")), [](auto) {});
    EXPECT_REFUSED(r, "/nonexistent/ca.pem");
}

TEST_F(Tls, NobodyListeningIsSaid) {
    std::uint16_t port = 0;
    {
        auto l = Listener::listen("127.0.0.1", 0, plain(), [](auto) {});
        ASSERT_TRUE(l);
        port = (*l)->port();
    }
    EXPECT_REFUSED(dial("127.0.0.1", port, plain()), "connecting to 127.0.0.1");
}

// Over both kinds of stream: waiting ends when it should, and not before.
class Waiting : public Tls, public testing::WithParamInterface<bool> {};

TEST_P(Waiting, IdlePatienceOutlastsTheDeadlineAndCancelEndsIt) {
    auto o = GetParam() ? with(good()) : plain();
    o.io_timeout = 200ms;
    std::promise<std::unique_ptr<Channel>> accepted;
    auto l = Listener::listen("127.0.0.1", 0, o, [&](auto c) { accepted.set_value(std::move(c)); });
    ASSERT_TRUE(l);
    auto c = dial("127.0.0.1", (*l)->port(), o);
    ASSERT_TRUE(c) << c.error().what;
    auto other = accepted.get_future().get();
    const auto bounded = (*c)->receive();
    ASSERT_FALSE(bounded);
    EXPECT_EQ(bounded.error().kind, ErrorKind::Timeout) << bounded.error().what;

    auto patient = std::async(std::launch::async, [&] { return (*c)->receive(Patience::Idle); });
    EXPECT_EQ(patient.wait_for(500ms), std::future_status::timeout) << "twice the deadline and still waiting";
    ASSERT_TRUE(other->send(kType, std::vector<std::uint8_t>{9}));
    const auto f = patient.get();
    ASSERT_TRUE(f) << f.error().what;
    EXPECT_EQ(f->payload.size(), 1u);

    auto waiting = std::async(std::launch::async, [&] { return (*c)->receive(Patience::Idle); });
    (*c)->cancel();
    EXPECT_FALSE(waiting.get());
    other.reset();
}

TEST_P(Waiting, APeerThatClosesIsAnErrorAndNotASignal) {
    const auto o = GetParam() ? with(good()) : plain();
    std::promise<void> closed;
    auto l = Listener::listen("127.0.0.1", 0, o, [&](auto c) {
        c.reset();
        closed.set_value();
    });
    ASSERT_TRUE(l);
    auto c = dial("127.0.0.1", (*l)->port(), o);
    ASSERT_TRUE(c) << c.error().what;
    closed.get_future().wait();
    Result<void> sent;
    for (int i = 0; i < 1'000 && sent; ++i) sent = (*c)->send(kType, std::vector<std::uint8_t>(10'000));
    EXPECT_FALSE(sent) << "SIGPIPE would have ended this test";
}

TEST_P(Waiting, ManyFramesBothWaysAtOnce) {
    const auto o = GetParam() ? with(good()) : plain();
    constexpr int kFrames = 200;
    const std::vector<std::uint8_t> payload(50'000, 7);
    const auto drive = [&](Channel& c) {
        std::jthread sender([&] {
            for (int i = 0; i < kFrames; ++i) ASSERT_TRUE(c.send(kType, payload));
        });
        for (int i = 0; i < kFrames; ++i) {
            const auto f = c.receive();
            ASSERT_TRUE(f) << f.error().what;
            ASSERT_EQ(f->payload, payload);
        }
        sender.join();
    };
    std::promise<void> done;
    auto l = Listener::listen("127.0.0.1", 0, o, [&](auto c) {
        drive(*c);
        done.set_value();
    });
    ASSERT_TRUE(l);
    auto c = dial("127.0.0.1", (*l)->port(), o);
    ASSERT_TRUE(c);
    drive(**c);
    done.get_future().wait();
    EXPECT_EQ((*c)->bytes_sent(), kFrames * (payload.size() + sizeof(FrameHeader)));
}
// Frames that are sent together arrive as those sent one by one do.
TEST_P(Waiting, GatheredFramesArriveInOrder) {
    const auto o = GetParam() ? with(good()) : plain();
    std::promise<std::unique_ptr<Channel>> accepted;
    auto l = Listener::listen("127.0.0.1", 0, o, [&](auto c) { accepted.set_value(std::move(c)); });
    ASSERT_TRUE(l);
    auto c = dial("127.0.0.1", (*l)->port(), o);
    ASSERT_TRUE(c) << c.error().what;
    auto other = accepted.get_future().get();
    const std::vector<std::uint8_t> small{1, 2, 3}, large(100'000, 4);
    const OutgoingFrame frames[] = {{kType, small}, {kType + 1, {}}, {kType + 2, large}};
    ASSERT_TRUE((*c)->send(kType, small));
    ASSERT_TRUE((*c)->send(frames));
    ASSERT_TRUE((*c)->send(kType + 3, large));
    const std::pair<std::uint16_t, std::vector<std::uint8_t>> expected[] = {
        {kType, small}, {kType, small}, {kType + 1, {}}, {kType + 2, large}, {kType + 3, large}};
    for (const auto& [type, payload] : expected) {
        const auto f = other->receive(Patience::Idle);
        ASSERT_TRUE(f) << f.error().what;
        EXPECT_EQ(f->type, type);
        EXPECT_EQ(f->payload, payload);
    }
    EXPECT_EQ((*c)->bytes_sent(), other->bytes_received());
}

INSTANTIATE_TEST_SUITE_P(Streams, Waiting, testing::Bool(),
                         [](const auto& p) { return p.param ? "Tls" : "Tcp"; });

TEST(Gathered, AFrameThatIsTooLongIsNotSentAndNoneOfTheOthers) {
    test::Pipe pipe;
    auto c = test::channel_on(pipe);
    const std::vector<std::uint8_t> small{1}, monster(kMaxPayload + 1);
    const OutgoingFrame frames[] = {{kType, small}, {kType, monster}};
    EXPECT_FALSE(c.send(frames));
    EXPECT_TRUE(pipe.written.empty());
    ASSERT_TRUE(c.send(kType, small));
    pipe.to_read = pipe.written;
    auto reader = test::channel_on(pipe);
    EXPECT_TRUE(reader.receive()) << "the sequence has no hole";
}

TEST(Gathered, FramesWaitForTheFlush) {
    test::Pipe pipe;
    auto c = test::channel_on(pipe);
    const std::vector<std::uint8_t> small{1, 2, 3};
    {
        Gathering together(c);
        ASSERT_TRUE(c.send(kType, small));
        ASSERT_TRUE(c.send(kType + 1, {}));
        EXPECT_TRUE(pipe.written.empty());
        ASSERT_TRUE(together.flush());
        EXPECT_EQ(pipe.written.size(), 2 * sizeof(FrameHeader) + small.size());
        ASSERT_TRUE(c.send(kType + 2, small));
        EXPECT_EQ(pipe.written.size(), 3 * sizeof(FrameHeader) + 2 * small.size())
            << "after the flush each goes at once";
    }
    EXPECT_EQ(c.bytes_sent(), pipe.written.size());
    pipe.to_read = pipe.written;
    auto reader = test::channel_on(pipe);
    for (std::uint16_t i = 0; i < 3; ++i) {
        const auto f = reader.receive();
        ASSERT_TRUE(f) << f.error().what;
        EXPECT_EQ(f->type, kType + i);
    }
}

TEST(Gathered, ALargePayloadTakesWhatWaitsAlong) {
    test::Pipe pipe;
    auto c = test::channel_on(pipe);
    const std::vector<std::uint8_t> small{1, 2, 3}, large(100'000, 4);
    Gathering together(c);
    ASSERT_TRUE(c.send(kType, small));
    ASSERT_TRUE(c.send(kType + 1, large));
    EXPECT_EQ(pipe.written.size(), 2 * sizeof(FrameHeader) + small.size() + large.size());
    ASSERT_TRUE(c.send(kType, small));
    EXPECT_EQ(pipe.written.size(), 2 * sizeof(FrameHeader) + small.size() + large.size()) << "it waits again";
}

TEST(Gathered, WhatWasGatheredLeavesAlsoWhenNobodyFlushes) {
    test::Pipe pipe;
    auto c = test::channel_on(pipe);
    {
        Gathering together(c);
        ASSERT_TRUE(c.send(kType, {}));
    }
    ASSERT_TRUE(c.send(kType + 1, {}));
    pipe.to_read = pipe.written;
    auto reader = test::channel_on(pipe);
    EXPECT_TRUE(reader.receive());
    EXPECT_TRUE(reader.receive()) << "the sequence has no hole";
}

// One listener on all addresses: an IPv4 peer is called by its plain address, and IPv6 works where the host has it.
TEST(Listener, WithoutAnAddressTakesBothKindsOfPeers) {
    std::mutex m;
    std::condition_variable changed;
    std::vector<std::string> peers;
    auto l = Listener::listen("", 0, plain(), [&](std::unique_ptr<Channel> c) {
        std::lock_guard lock(m);
        peers.push_back(c->peer());
        changed.notify_all();
    });
    ASSERT_TRUE(l) << l.error().what;
    ASSERT_TRUE(dial("127.0.0.1", (*l)->port(), plain()));
    std::vector<std::string> expected{"127.0.0.1"};
    {
        std::unique_lock lock(m);
        ASSERT_TRUE(changed.wait_for(lock, 8s, [&] { return peers.size() == 1; }));
    }
    if (Listener::listen("::1", 0, plain(), [](auto) {})) {
        ASSERT_TRUE(dial("::1", (*l)->port(), plain()));
        expected.emplace_back("::1");
    }
    std::unique_lock lock(m);
    ASSERT_TRUE(changed.wait_for(lock, 8s, [&] { return peers.size() == expected.size(); }));
    EXPECT_EQ(peers, expected);
}

TEST(Listener, TooManyConnectionsAreClosedAndTheRestServed) {
    std::promise<void> end;
    std::promise<Error> refused;  // once: a second one would throw
    auto l = Listener::listen(
        "127.0.0.1", 0, plain(), [f = end.get_future().share()](auto) { f.wait(); },
        [&](const Error& e) { refused.set_value(e); });
    ASSERT_TRUE(l);
    std::vector<std::unique_ptr<Channel>> all;
    for (unsigned i = 0; i < kMostConnections + 1; ++i) {
        auto c = dial("127.0.0.1", (*l)->port(), plain());
        ASSERT_TRUE(c);
        all.push_back(std::move(*c));
    }
    EXPECT_FALSE(all.back()->receive(Patience::Idle)) << "closed unread, however long it took";
    EXPECT_NE(refused.get_future().get().what.find("too many connections"), std::string::npos);
    end.set_value();
}

}  // namespace
}  // namespace proa::transport
