// A primary and a backup in one process, over loopback, with a witness in memory: the real engine between two fake guests.
#pragma once
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>

#include "remus/backup.hpp"
#include "remus/primary.hpp"
#include "tests/support/fake_guest.hpp"
#include "tests/support/fake_witness.hpp"
#include "tests/support/temporary.hpp"

namespace proa::remus {

using namespace std::chrono_literals;

// What an object said it has become, to be waited for.
template <class State>
class Said {
  public:
    void say(State s, const vmm::Error& why) {
        std::lock_guard lock(mutex_);
        states_.push_back(s);
        why_ = why;
        changed_.notify_all();
    }
    bool wait(State s) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, 60s,
                                 [&] { return std::find(states_.begin(), states_.end(), s) != states_.end(); });
    }
    std::string why() {
        std::lock_guard lock(mutex_);
        return why_.what;
    }
    void forget() {
        std::lock_guard lock(mutex_);
        states_.clear();
        why_ = {};
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<State> states_;
    vmm::Error why_;
};

inline bool eventually(const std::function<bool()>& f) {
    for (const auto end = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < end;) {
        if (f()) return true;
        std::this_thread::sleep_for(2ms);
    }
    return false;
}

struct Pair {
    explicit Pair(std::uint64_t bytes = 4u << 20)
        : first(bytes, 1, vmm::GuestState::Running), second(bytes, 2, vmm::GuestState::Incoming) {
        std::mt19937_64 random(7);
        auto ram = first.memory().bytes();
        for (std::size_t i = 0; i < ram.size(); ++i)
            if (i / 4096 % 4 != 3) ram[i] = static_cast<std::uint8_t>(random());
        first.device(0).state = {1, 2, 3};
        first.device(1).state = {4, 5};
        out.host = "127.0.0.1";
        out.channel.io_timeout = in.channel.io_timeout = 20s;
        out.token = in.token = migrate::random_token();
        out.this_host = "A";
        in.this_host = "B";
        out.session = std::string(64, 'a');
        in.session = std::string(64, 'b');
        out.pacing.interval = Seconds(0.003);
        out.witness_pause = in.claim_pause = 2ms;
        // On a busy machine only the test says who is dead.
        out.detector = in.detector = {50ms, 600};
        out.lease.ttl = 600s;  // the fence is far: tests say when time is up
        out.lease.renew_every = 10ms;
        in.address = "127.0.0.1";
        in.state_directory = directory.path();
        in.first_contact = 60s;
        first.fenced = [this] {
            if (primary) primary->fenced();
        };
        first.machine().pages_per_ms = 5;
        (void)first.machine().run();
    }
    ~Pair() {
        primary.reset();
        backup.reset();
    }

    void listen() {
        auto b = Backup::listen(second, witness_b, in,
                                {[this](BackupState s, const vmm::Error& e) { backup_said.say(s, e); }});
        ASSERT_TRUE(b) << b.error().what;
        backup = std::move(*b);
        if (out.port == 0) out.port = backup->port();
    }
    void protect() {
        if (!backup) listen();
        primary = std::make_unique<Primary>(
            first, witness_a, out,
            Primary::Hooks{[this](PrimaryState s, const vmm::Error& e) { primary_said.say(s, e); }, {}});
    }
    // Protected, and some checkpoints on.
    void protect_well() {
        protect();
        ASSERT_TRUE(primary_said.wait(PrimaryState::Protected)) << primary_said.why();
        ASSERT_TRUE(eventually([this] { return epoch() > 3; }));
    }
    std::uint64_t epoch() const {
        nlohmann::json j;
        backup->status(j);
        return j.at("epoch");
    }
    // The guest says how far it has come.
    void speak(test::FakeGuest& g) {
        migrate::on_guest(g, [&] {
            if (g.machine().runs()) g.output()->send(g.machine().writes());
            return 0;
        });
    }
    static std::uint64_t last_said(test::FakeGuest& g) {
        const auto all = g.output()->left();
        return all.empty() ? 0 : all.back();
    }
    bool never_two() { return !(first.machine().runs() && second.machine().runs()); }

    // Before the guests: what an object says last may still be on its way through its guest's thread.
    Said<PrimaryState> primary_said;
    Said<BackupState> backup_said;
    test::FakeGuest first, second;
    test::TemporaryDirectory directory;
    test::WitnessService service;
    std::shared_ptr<test::FakeWitness> witness_a = std::make_shared<test::FakeWitness>(service);
    std::shared_ptr<test::FakeWitness> witness_b = std::make_shared<test::FakeWitness>(service);
    PrimaryOptions out;
    BackupOptions in;
    std::unique_ptr<Primary> primary;
    std::unique_ptr<Backup> backup;
};

}  // namespace proa::remus
