#include "remus/etcd_witness.hpp"

#include <algorithm>

#include "remus/etcd_keys.hpp"
#include "remus/no_witness.hpp"

namespace proa::remus {
namespace {

constexpr int kRounds = 3;  // of reading, then changing what was read, while somebody else is faster each time

using Answer = Witness::Answer;

// Names go into keys, JSON and messages. '/' would make a guest's name reach into another's keys.
vmm::Result<void> check_name(const char* what, const std::string& s) {
    if (!s.empty() && s.size() <= 255 &&
        std::all_of(s.begin(), s.end(), [](char c) { return c > ' ' && c <= '~'; }) &&
        s.find('/') == std::string::npos)
        return {};
    return vmm::fail(std::string("a ") + what + " of this name can't be written to the witness",
                     "use 1 to 255 printable characters without '/' or spaces");
}
vmm::Result<void> check_names(const std::string& guest, const std::string& host, const std::string& session) {
    if (auto r = check_name("guest", guest); !r) return r;
    if (auto r = check_name("host", host); !r) return r;
    return check_name("session", session);
}

tl::unexpected<vmm::Error> too_busy(const std::string& guest) {
    return vmm::fail("guest " + guest + "'s key at the witness changes all the time",
                     "does a third host claim it?");
}

// A key that was claimed and of which nothing is left: not even the record that outlives it. Whoever answered "lost" here
// might make the only living copy end; whoever answered "yours" might make a second one.
tl::unexpected<vmm::Error> forgotten(const std::string& guest, const std::string& remedy) {
    return vmm::fail(
        "the witness has forgotten guest " + guest + ": was etcd's data replaced, or deleted by hand?", remedy);
}

vmm::Result<std::uint64_t> grant(EtcdCall& call, std::chrono::milliseconds ttl) {
    const auto seconds = std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(ttl).count());
    const auto answer = call.post("/v3/lease/grant", {{"TTL", std::to_string(seconds)}});
    if (!answer) return tl::unexpected(answer.error());
    const auto id = number_at(answer->body, "ID"), given = number_at(answer->body, "TTL");
    if (answer->not_found || !id || !given || *id == 0)
        return vmm::fail("etcd's answer to a lease's grant is not one", "is it etcd 3.4 or later?");
    if (*given <
        static_cast<std::uint64_t>(seconds))  // longer is safe: the fence counts from what was asked for
        return vmm::fail(
            "etcd gave a lease of " + std::to_string(*given) + " s for " + std::to_string(seconds) + " s",
            "a lease that ends before its holder stops can't be used: is it really etcd?");
    return *id;
}

void revoke(EtcdCall& call, std::uint64_t lease) {
    if (lease != 0)
        (void)call.post("/v3/lease/revoke", {{"ID", std::to_string(lease)}});  // else it runs out by itself
}

// False: the lease is gone.
vmm::Result<bool> keep_alive(EtcdCall& call, std::uint64_t lease) {
    const auto answer = call.post("/v3/lease/keepalive", {{"ID", std::to_string(lease)}});
    if (!answer) return tl::unexpected(answer.error());
    if (answer->not_found) return false;
    const auto result = answer->body.find("result");
    if (result != answer->body.end() && result->is_object()) {
        const auto id = number_at(*result, "ID"), ttl = number_at(*result, "TTL");
        if (id && ttl && *id == lease) return *ttl != 0;
    }
    return vmm::fail("etcd's answer to a lease's renewal is not one", "is it etcd 3.4 or later?");
}

}  // namespace

vmm::Result<std::unique_ptr<Witness>> make_witness(const std::string& spec, std::chrono::milliseconds timeout) {
    if (spec == "none") return std::make_unique<NoWitness>();
    auto endpoints = EtcdEndpoints::parse(spec);
    if (!endpoints) return tl::unexpected(endpoints.error());
    return std::make_unique<EtcdWitness>(std::move(*endpoints), timeout);
}

vmm::Result<std::optional<Holder>> EtcdWitness::look(const std::string& guest) {
    if (auto r = check_name("guest", guest); !r) return tl::unexpected(r.error());
    EtcdCall call(*endpoints_, timeout_);
    const auto seen = EtcdKeys(call, guest).read();
    if (!seen) return tl::unexpected(seen.error());
    return seen->holder ? std::optional(seen->holder->who) : std::nullopt;
}

vmm::Result<Witness::Claim> EtcdWitness::claim(const std::string& guest, const std::string& host,
                                               const std::string& session, std::chrono::milliseconds ttl,
                                               std::uint64_t after) {
    if (auto r = check_names(guest, host, session); !r) return tl::unexpected(r.error());
    EtcdCall call(*endpoints_, timeout_);
    EtcdKeys keys(call, guest);
    std::uint64_t lease = 0;
    const auto refuse = [&](const Holder& h, bool never) {
        revoke(call, lease);
        return Claim{{}, h, never};
    };
    for (int round = 0; round < kRounds; ++round) {
        const auto seen = keys.read();
        if (!seen) return tl::unexpected(seen.error());
        const auto &holder = seen->holder, &last = seen->last;
        if (after != 0 && !last)
            return forgotten(guest, "restore etcd's data, or end this copy of the guest and protect it again");
        const bool never = after != 0 && (last->who.settled || last->who.term != after);
        if (holder && holder->who.session != session) return refuse(holder->who, never);
        if (never) return refuse(last->who, true);
        if (holder && !holder->who.settled && lease != 0 && holder->lease == lease)
            return Claim{Held{holder->who.term, lease, guest}, {}, false};
        if (lease == 0) {
            const auto granted = grant(call, ttl);
            if (!granted) return tl::unexpected(granted.error());
            lease = *granted;
        }
        // Held by us: an earlier claim, whose answer was lost. Its lease began too early for this call: the key moves to the
        // new one, its term stays. A key of ours that is permanent is none of these: its term is closed.
        const bool ours = holder && !holder->who.settled;
        const Holder us{host, session, ours ? holder->who.term : after, false};
        const Json free = holder ? keys.holder_modified_at(holder->modified) : keys.holder_created_at(0);
        const Json unchanged = keys.last_modified_at(last ? last->modified : 0);
        // Only a new beginning writes `last`: a backup's claim decides nothing.
        const auto outcome =
            us.term != 0 ? keys.change({free, unchanged}, {keys.put_holder(us, lease)})
                         : keys.change({free, unchanged}, {keys.put_holder(us, lease), keys.put_last(us)});
        if (!outcome) return tl::unexpected(outcome.error());
        if (outcome->done)
            return Claim{Held{us.term != 0 ? us.term : outcome->revision, lease, guest}, {}, false};
    }
    revoke(call, lease);
    return too_busy(guest);
}

vmm::Result<Answer> EtcdWitness::renew(const Held& h) {
    if (auto r = check_name("guest", h.guest); !r) return tl::unexpected(r.error());
    EtcdCall call(*endpoints_, timeout_);
    bool lives = false;
    if (h.lease != 0) {
        const auto kept = keep_alive(call, h.lease);
        if (!kept) return tl::unexpected(kept.error());
        lives = *kept;
    }
    // A lease may live and its key be gone, by hand. And this read goes through the cluster's leader, which a renewal does
    // not: one from a leader that has been voted out without knowing it yet is not taken for an answer.
    const auto seen = EtcdKeys(call, h.guest).read();
    if (!seen) return tl::unexpected(seen.error());
    const auto& holder = seen->holder;
    if (!holder || holder->who.term != h.term) return Answer::Lost;
    return holder->who.settled || (lives && holder->lease == h.lease) ? Answer::Yes : Answer::Lost;
}

vmm::Result<Answer> EtcdWitness::settle(const std::string& guest, const std::string& host,
                                        const std::string& session, const Held& h) {
    if (auto r = check_names(guest, host, session); !r) return tl::unexpected(r.error());
    EtcdCall call(*endpoints_, timeout_);
    EtcdKeys keys(call, guest);
    const Holder us{host, session, h.term, true};
    const Json changes{keys.put_holder(us), keys.put_last(us)};
    for (int round = 0; round < kRounds; ++round) {
        const auto seen = keys.read();
        if (!seen) return tl::unexpected(seen.error());
        const auto &holder = seen->holder, &last = seen->last;
        if (!last && !holder)
            return forgotten(guest, "restore etcd's data; or, if no other host runs the guest: etcdctl put " +
                                        EtcdKeys::name(guest, "holder") + " '" + EtcdKeys::value(us) + "'");
        const Holder& decided =
            last ? last->who : holder->who;  // `last` was deleted by hand: the key says as much
        if (decided.term != h.term) return Answer::Lost;
        if (decided.settled) return decided.session == session ? Answer::Yes : Answer::Lost;
        if (holder && holder->who.session != session) return Answer::Contested;
        const auto outcome =
            keys.change({holder ? keys.holder_modified_at(holder->modified) : keys.holder_created_at(0),
                         keys.last_modified_at(last ? last->modified : 0)},
                        changes);
        if (!outcome) return tl::unexpected(outcome.error());
        if (outcome->done) return Answer::Yes;
    }
    return too_busy(guest);
}

vmm::Result<Answer> EtcdWitness::release(const std::string& guest, const std::string& session) {
    if (auto r = check_name("guest", guest); !r) return tl::unexpected(r.error());
    EtcdCall call(*endpoints_, timeout_);
    EtcdKeys keys(call, guest);
    for (int round = 0; round < kRounds; ++round) {
        const auto seen = keys.read();
        if (!seen) return tl::unexpected(seen.error());
        if (!seen->holder) return Answer::Yes;
        if (seen->holder->who.session != session) return Answer::Lost;
        const auto outcome = keys.change(Json::array({keys.holder_modified_at(seen->holder->modified)}),
                                         Json::array({keys.delete_holder()}));
        if (!outcome) return tl::unexpected(outcome.error());
        if (outcome->done) return Answer::Yes;
    }
    return too_busy(guest);
}

}  // namespace proa::remus
