// A witness in memory, for tests of what depends on one: WitnessService is the third host, with a clock that only moves
// when the test says so; FakeWitness is one host's way to it, which can be cut or lose messages.
//
//     WitnessService service;
//     FakeWitness a(service), b(service);      // two hosts
//     a.claim("g", "A", std::string(64, 'a'), 3s);
//     a.cut();                                 // A's calls are not answered any more
//     service.advance(3s);                     // A's lease has run out; b may claim
#pragma once
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "remus/witness.hpp"

namespace proa::test {

struct WitnessKey {
    remus::Holder holder;
    std::uint64_t lease = 0;
    std::chrono::milliseconds ttl{}, expires{};
};

class WitnessService {
  public:
    using Ms = std::chrono::milliseconds;

    void advance(Ms by) {
        std::lock_guard lock(mutex_);
        now_ += by;
    }
    // Who is written there, seen by nobody's faults.
    std::optional<remus::Holder> holder(const std::string& guest) {
        std::lock_guard lock(mutex_);
        const Entry& e = entry(guest);
        return e.key ? std::optional(e.key->holder) : std::nullopt;
    }
    // As an administrator does it by hand: the key is gone, its lease lives on.
    void delete_key(const std::string& guest) {
        std::lock_guard lock(mutex_);
        entries_[guest].key.reset();
    }

  private:
    friend class FakeWitness;
    struct Entry {
        std::optional<WitnessKey> key;
        remus::Holder
            last;  // the last term: whose beginning it was, and whether somebody has settled it; outlives the key
    };
    Entry& entry(const std::string& guest) {  // under the lock
        Entry& e = entries_[guest];
        if (e.key && !e.key->holder.settled && now_ >= e.key->expires) e.key.reset();
        return e;
    }
    WitnessKey* held(const remus::Held& h) {  // under the lock
        Entry& e = entry(h.guest);
        return e.key && e.key->holder.term == h.term ? &*e.key : nullptr;
    }

    std::mutex mutex_;
    Ms now_{0};
    std::uint64_t revision_ = 100, leases_ = 0;
    std::map<std::string, Entry> entries_;
};

class FakeWitness final : public remus::Witness {
  public:
    using Ms = std::chrono::milliseconds;
    explicit FakeWitness(WitnessService& s) : service_(s) {}

    // Faults. A call that is not answered returns its error at once.
    void cut(bool on = true) {
        with([&] { cut_ = on; });
    }
    void lose_requests(unsigned n) {
        with([&] { lose_requests_ = n; });
    }  // the next n calls don't arrive
    void lose_answers(unsigned n) {
        with([&] { lose_answers_ = n; });
    }  // the next n take effect, unanswered
    // Runs in the caller's thread between a call's effect and its answer; may block, and may use the service.
    void before_answer(std::function<void()> f) {
        with([&] { before_answer_ = std::move(f); });
    }

    unsigned calls() const {  // answered or not
        std::lock_guard lock(mutex_);
        return calls_;
    }
    unsigned renewals() const {  // that were answered Yes
        std::lock_guard lock(mutex_);
        return renewals_;
    }
    // Until that many calls have come, or renewals have been answered, since the beginning. False: it took a minute.
    bool wait_calls(unsigned n) {
        return wait([&] { return calls_ >= n; });
    }
    bool wait_renewals(unsigned n) {
        return wait([&] { return renewals_ >= n; });
    }

    vmm::Result<std::optional<remus::Holder>> look(const std::string& guest) override {
        return call<std::optional<remus::Holder>>([&] {
            const auto& e = service_.entry(guest);
            return e.key ? std::optional(e.key->holder) : std::nullopt;
        });
    }
    vmm::Result<Claim> claim(const std::string& guest, const std::string& host, const std::string& session,
                             Ms ttl, std::uint64_t after) override {
        return call<Claim>([&] {
            auto& e = service_.entry(guest);
            const bool never = after != 0 && (e.last.term != after || e.last.settled);
            if (e.key && e.key->holder.session != session) return Claim{{}, e.key->holder, never};
            if (never) return Claim{{}, e.last, true};
            if (after != 0) {
                if (!e.key) e.key.emplace().holder = {host, session, after, false};
            } else if (!e.key || e.key->holder.settled) {
                e.last = {host, session, ++service_.revision_, false};
                e.key.emplace().holder = e.last;
            }
            e.key->lease = ++service_.leases_;
            e.key->ttl = ttl;
            e.key->expires = service_.now_ + ttl;
            return Claim{remus::Held{e.key->holder.term, e.key->lease, guest}, {}, false};
        });
    }
    vmm::Result<Answer> renew(const remus::Held& h) override {
        auto answer = call<Answer>([&] {
            auto* k = service_.held(h);
            if (k == nullptr || (!k->holder.settled && k->lease != h.lease)) return Answer::Lost;
            k->expires = service_.now_ + k->ttl;
            return Answer::Yes;
        });
        if (answer && *answer == Answer::Yes) with([&] { ++renewals_; });
        return answer;
    }
    vmm::Result<Answer> settle(const std::string& guest, const std::string& host, const std::string& session,
                               const remus::Held& h) override {
        return call<Answer>([&] {
            auto& e = service_.entry(guest);
            if (e.last.term != h.term) return Answer::Lost;
            if (e.last.settled) return e.last.session == session && e.key ? Answer::Yes : Answer::Lost;
            if (e.key && e.key->holder.session != session) return Answer::Contested;
            e.last = {host, session, h.term, true};
            e.key.emplace().holder = e.last;
            return Answer::Yes;
        });
    }
    vmm::Result<Answer> release(const std::string& guest, const std::string& session) override {
        return call<Answer>([&] {
            auto& e = service_.entry(guest);
            if (e.key && e.key->holder.session != session) return Answer::Lost;
            e.key.reset();
            return Answer::Yes;
        });
    }

  private:
    template <class F>
    void with(F&& f) {
        std::lock_guard lock(mutex_);
        f();
        changed_.notify_all();
    }
    template <class F>
    bool wait(F&& f) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::minutes(1), f);
    }
    static bool take(unsigned& n) { return n > 0 && n-- > 0; }

    template <class T, class F>
    vmm::Result<T> call(F&& effect) {
        bool arrives = true, answered = true;
        std::function<void()> before;
        with([&] {
            ++calls_;
            arrives = !cut_ && !take(lose_requests_);
            answered = arrives && !take(lose_answers_);
            before = before_answer_;
        });
        std::optional<T> result;
        if (arrives) {
            std::lock_guard lock(service_.mutex_);
            result = effect();
        }
        if (before) before();
        if (!answered) return vmm::fail("injected: the witness does not answer");
        return std::move(*result);
    }

    WitnessService& service_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool cut_ = false;
    unsigned lose_requests_ = 0, lose_answers_ = 0, calls_ = 0, renewals_ = 0;
    std::function<void()> before_answer_;
};

}  // namespace proa::test
