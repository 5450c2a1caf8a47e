// A source and a destination in one process, over loopback: the real Outgoing and Incoming between two fake guests.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "migrate/incoming.hpp"
#include "migrate/outgoing.hpp"
#include "tests/support/fake_guest.hpp"
#include "tests/support/temporary.hpp"

namespace proa::migrate {

using namespace std::chrono_literals;

struct Rig {
    explicit Rig(std::uint64_t bytes = 4u << 20, transport::ChannelOptions channel = quick())
        : source(bytes, 1, vmm::GuestState::Running), target(bytes, 2, vmm::GuestState::Incoming) {
        std::mt19937_64 random(7);
        auto ram = source.memory().bytes();
        for (std::size_t i = 0; i < ram.size(); ++i)  // every fourth page stays zero
            if (i / 4096 % 4 != 3) ram[i] = static_cast<std::uint8_t>(i % 64 < 48 ? i / 4096 : random());
        source.device(0).state = {1, 2, 3};
        source.device(1).state = {4, 5};
        (void)source.machine().run();
        out.host = "127.0.0.1";
        out.channel = in.channel = channel;
        out.token = in.token = random_token();
        out.ask_tries = 2;
        out.ask_pause = 10ms;
        in.sessions = sessions.path();
        in.address = "127.0.0.1";
        in.first_contact = 3s;
        EXPECT_TRUE(Session(in.sessions, in.token).apply(SessionEvent::Prepared));
        out.ask = [this] { return ask(); };
    }
    static transport::ChannelOptions quick() {
        transport::ChannelOptions o;
        o.io_timeout = 3s;
        return o;
    }
    // What the destination's daemon would answer.
    std::optional<SourceEvent> ask() {
        if (!reachable) return {};
        const auto a = Session(in.sessions, in.token).apply(SessionEvent::Asked);
        if (a && *a == SessionAnswer::Started) return SourceEvent::AnswerStarted;
        if (a && *a == SessionAnswer::Never) return SourceEvent::AnswerNever;
        return {};
    }
    std::uint16_t listen() {
        auto i = Incoming::listen(target, in, [this](const Incoming::Outcome& o) { arrived.set_value(o); });
        EXPECT_TRUE(i) << i.error().what;
        incoming = std::move(*i);
        return incoming->port();
    }
    void start(std::uint16_t port) {
        out.port = port;
        outgoing = std::make_unique<Outgoing>(
            source, out, [this](const nlohmann::json& j) { progress.push_back(j); },
            [this](const Outgoing::Outcome& o) { left.set_value(o); });
    }
    Outgoing::Outcome outcome() {
        auto f = left.get_future();
        if (f.wait_for(60s) == std::future_status::ready) return f.get();
        ADD_FAILURE() << "the source hangs";
        std::abort();  // its threads can't be ended; the harness shows where they are
    }
    std::optional<Incoming::Outcome> arrival(std::chrono::seconds limit = 40s) {
        auto f = arrived.get_future();
        if (f.wait_for(limit) == std::future_status::ready) return f.get();
        return {};
    }
    bool same_memory() {
        auto a = source.memory().bytes(), b = target.memory().bytes();
        return std::equal(a.begin(), a.end(), b.begin(), b.end());
    }
    unsigned running() { return unsigned{source.machine().runs()} + unsigned{target.machine().runs()}; }

    test::TemporaryDirectory sessions;
    OutgoingOptions out;
    IncomingOptions in;
    std::atomic<bool> reachable{true};
    std::promise<Incoming::Outcome> arrived;
    std::promise<Outgoing::Outcome> left;
    std::vector<nlohmann::json> progress;  // written on the source's thread; read after it is done
    test::FakeGuest source, target;        // their threads call back into all of the above
    std::unique_ptr<Incoming> incoming;
    std::unique_ptr<Outgoing> outgoing;
};

}  // namespace proa::migrate
