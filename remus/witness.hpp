// Who may run a protected guest, as decided by a third party: a key per guest, held by a lease that expires unless it is
// renewed, or for good. The implementations: etcd (etcd_witness.hpp), and none (no_witness.hpp: a pair that may split).
// docs/HA.md has the argument.
//
// Beside the key there is, for each guest, its last term and whether that is open or closed, by whom; all outlive the key. A new
// beginning (a primary's claim) opens the next term. A backup's claim continues a term that is open and leaves it so.
// Settling closes it, and it stays closed: whoever settles first has the guest for good. All of it in one transaction each.
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
    std::uint64_t term = 0;  // rises with every new beginning; what an old primary's frames are told by
    bool settled = false;    // not a lease: this holder runs the guest alone, nobody may take over
};

struct Held {
    std::uint64_t term = 0;   // a backup's: that of its primary, which it continues
    std::uint64_t lease = 0;  // the witness's own name for it
    std::string guest;        // whose key it is
};

class Witness {
  public:
    virtual ~Witness() = default;

    // Nobody: nothing. Whether a claim would succeed is only known by making it.
    virtual vmm::Result<std::optional<Holder>> look(const std::string& guest) = 0;

    // Takes the key if nobody holds it, with a lease of `ttl` that begins at the witness no earlier than this call. Else the
    // holder. Idempotent for one session: a claim whose answer was lost is found again.
    // `after`: 0 for a new beginning, which opens a term. A backup gives its primary's term: granted only while that is the
    // guest's last one and open, so that a backup whom time has passed by can't take a key that happens to be free.
    // A request that is delayed on its way must not take a key that this session has given up since: a new beginning is
    // conditional on the last term it has read, a continuation on its lease (revoked by release()).
    struct Claim {
        std::optional<Held> held;  // granted
        Holder holder;             // refused: who has it, if anybody
        bool never = false;  // refused for good: another session has closed the term, or it isn't the last one
    };
    virtual vmm::Result<Claim> claim(const std::string& guest, const std::string& host,
                                     const std::string& session, std::chrono::milliseconds ttl,
                                     std::uint64_t after = 0) = 0;

    enum class Answer : std::uint8_t {
        Yes,
        Contested,  // settle() only: another session has a lease on the key and may settle or not. Ask again
        Lost,  // renew(): the lease has expired. settle(): another session has settled, or the term isn't the last one
    };
    // Begins the lease's time anew, no earlier than this call.
    virtual vmm::Result<Answer> renew(const Held& h) = 0;
    // Makes the key permanent and closes the term: from Yes on nobody can ever claim or settle it. From a lease of ours, or
    // from no lease at all if the term is still open and the last (ours has expired or was released, and whoever has taken
    // the key since has given it up again or died without settling). Idempotent.
    virtual vmm::Result<Answer> settle(const std::string& guest, const std::string& host,
                                       const std::string& session, const Held& h) = 0;
    // Gives the key up, leased or settled, if `session` holds it. Yes also if nobody does. The term stays open or closed.
    virtual vmm::Result<Answer> release(const std::string& guest, const std::string& session) = 0;
};

}  // namespace proa::remus
