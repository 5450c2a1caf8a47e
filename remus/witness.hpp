// Who may run a protected guest, as decided by a third party: a lease that expires unless it is renewed, on a key per guest
// whose holder is the one host that may run it. The implementations: etcd (etcd_witness.hpp), and none (no_witness.hpp:
// a pair that may split). docs/HA.md has the argument.
//
// Every call is blocking, bounded by the timeout the witness was made with, and may come from any thread. An Error means
// "no answer": the call may or may not have taken effect.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "vmm/error.hpp"

namespace proa::remus {

struct Holder {
    std::string host;        // as the holder calls itself
    std::string session;     // which run of it: 64 hexadecimal digits
    std::uint64_t term = 0;  // rises with every change of holder; what an old primary's frames are told by
    bool settled = false;    // not a lease: this holder runs the guest alone, nobody may take over
};

struct Held {
    std::uint64_t term = 0;
    std::uint64_t lease = 0;  // the witness's own name for it; 0: settled already
    std::string guest;        // whose key it is
};

class Witness {
  public:
    virtual ~Witness() = default;

    // Nobody: nothing. Whether a claim would succeed is only known by making it.
    virtual vmm::Result<std::optional<Holder>> look(const std::string& guest) = 0;

    // Takes the key if nobody holds it, with a lease of `ttl` that begins at the witness no earlier than this call. Else the
    // holder. Idempotent for one session: a claim whose answer was lost is found again, its lease beginning anew.
    //
    // `after`: a backup names the term of the primary whose checkpoints it has. It is refused if somebody has claimed the key
    // since or that primary has settled, even if nobody holds the key now: a backup that was cut off for long must not come
    // back with an old copy. So Holder is {settled or term != after} where asking again can't help. 0: no such condition.
    struct Claim {
        std::optional<Held> held;  // granted
        Holder holder;  // refused: who has it, or (nobody, and `after` is not the last) who had it last
    };
    virtual vmm::Result<Claim> claim(const std::string& guest, const std::string& host,
                                     const std::string& session, std::chrono::milliseconds ttl,
                                     std::uint64_t after = 0) = 0;

    enum class Answer : std::uint8_t {
        Yes,
        Lost
    };  // Lost: the lease has expired, or somebody else holds the key
    // Begins the lease's time anew, no earlier than this call.
    virtual vmm::Result<Answer> renew(const Held& h) = 0;
    // Makes the key permanent: from Yes on nobody can ever claim it until it is released. Also from an expired or released
    // lease, if nobody has taken the key since (Yes then means: it is taken back, for good). Idempotent. The term stays.
    virtual vmm::Result<Answer> settle(const std::string& guest, const std::string& host,
                                       const std::string& session, const Held& h) = 0;
    // Gives the key up, leased or settled, if `session` holds it. Yes also if nobody does.
    virtual vmm::Result<Answer> release(const std::string& guest, const std::string& session) = 0;
};

}  // namespace proa::remus
