// Everything about a protected guest that a step of the protocol can depend on: two hosts, the connection between them, a
// witness and the requests to it, and what has left the guest. tests/model/protection_model.hpp says what may happen next.
#pragma once
#include <compare>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "remus/protection.hpp"

namespace proa::model {

using remus::BackupAction;
using remus::BackupEvent;
using remus::BackupState;
using remus::PrimaryAction;
using remus::PrimaryEvent;
using remus::PrimaryState;

// Knobs that spoil the protocol on purpose: a model that finds nothing wrong with those would prove nothing.
struct Rules {
    // The fence and the lease
    bool fence_after_expiry = false;  // the lease may end before the fence has fired
    bool fence_is_a_process = false;  // a timer in proa-vm stops the guest, not proa-hv: a thawed guest runs on
    bool armed_after_end = false;     // the fence is armed when the End of checkpoint 1 is under way
    bool fenced_resumes = false;      // the guest goes on when its host is back, without asking
    bool alone_ignores_fence = false;  // a fence that was heard of too late is forgotten
    // Output
    bool released_when_sent = false;  // not when acknowledged
    bool acked_before_whole = false;  // at the first record of a checkpoint
    bool held_from_end = false;       // not from the pause of checkpoint 1
    // Going alone
    bool open_without_settling = false;
    bool open_when_dismissing = false;  // the backup was told, that must do
    // Handing over
    bool yield_keeps_key = false;  // Yours is sent, the lease is renewed all the same
    bool heartbeat_calls_invited_off = false;
    // Taking over
    bool claim_without_witness = false;  // silence is proof enough
    bool run_on_a_lease = false;         // granted is as good as settled
    bool run_while_asking = false;       // settle was sent, that must do
    bool checkpoints_after_granted = false;
    bool promise_is_forgotten = false;  // a discarded backup starts when its late claim is granted
    // The witness
    bool claims_without_term = false;  // any free key may be claimed, whatever has become of the guest
    bool settle_from_expired = false;  // whoever has taken the key since
    bool lease_is_the_end = false;     // another's lease answers settle as if it were settled
};

enum class Fence : std::uint8_t { Off, Armed, Fired };
enum class Key : std::uint8_t { None, PrimaryLease, PrimarySettled, BackupLease, BackupSettled, Stranger };
enum class Term : std::uint8_t { Fresh, Open, ClosedByPrimary, ClosedByBackup };
enum class Message : std::uint8_t { None, UnderWay, Through };
enum class LastWord : std::uint8_t { None, Active, Gone };
enum class Why : std::uint8_t { Not, NeverWhole, Dismissed, Refused, Broken };  // was the backup discarded

// What the witness has been asked and has answered. A bit: at least one copy is under way.
enum Request : std::uint8_t {
    PrimaryClaims = 1,
    PrimarySettles = 2,
    PrimaryReleases = 4,
    BackupClaims = 8,
    BackupSettles = 16,
    BackupReleases = 32
};
enum PrimaryAnswer : std::uint8_t { SaysGranted = 1, SaysRefused = 2, SaysSettled = 4, SaysNotOurs = 8 };
enum BackupAnswer : std::uint8_t { ToldGranted = 1, ToldByLease = 2, ToldForGood = 4, ToldSettled = 8 };

// Checkpoints travel as two messages each: 2i-1 is all of checkpoint i but its End, 2i is the End.
inline constexpr std::uint8_t kEverything = 99;  // epochs of output: all there will ever be

struct World {
    // Primary. `vcpus`: they would run, were it not for the fence.
    PrimaryState primary = PrimaryState::Claiming;
    std::uint8_t primary_alive = 1, vcpus = 1, frozen = 0, fence_news = 0, primary_knows = 0;
    Fence fence = Fence::Off;
    std::uint8_t sent = 0, acked = 0, released = 1;  // epoch 1 is from before protection
    // Backup. `whole`: checkpoints it has; `from`: the one it was started from.
    BackupState backup = BackupState::Receiving;
    std::uint8_t backup_alive = 1, read = 0, whole = 0, from = 0, backup_runs = 0, backup_ran = 0,
                 backup_knows = 0;
    Why discarded = Why::Not;
    // The connection; each direction in order. What is under way when it breaks may arrive, or from some point on not.
    std::uint8_t up = 1, wire = 0, acks = 0;
    Message yours = Message::None, dismiss = Message::None;
    LastWord word = LastWord::None;
    // The witness
    Key key = Key::None;
    Term term = Term::Fresh;
    std::uint8_t requests = 0, primary_answers = 0, backup_answers = 0;

    friend std::strong_ordering operator<=>(const World& a, const World& b) {
        static_assert(std::has_unique_object_representations_v<World>, "compared as bytes");
        return std::memcmp(&a, &b, sizeof a) <=> 0;
    }
    friend bool operator==(const World& a, const World& b) { return (a <=> b) == 0; }
};

// A frozen host's guest whose fence is overdue executes nothing before the fence.
inline bool primary_runs(const World& w, const Rules& r) {
    if (!w.primary_alive || !w.vcpus) return false;
    if (r.fence_is_a_process) return w.fence != Fence::Fired || w.fence_news;
    return w.fence != Fence::Fired && !(w.frozen && w.fence == Fence::Armed);
}

// What is wrong with this state, or null.
inline const char* wrong_with(const World& w, const Rules& r) {
    const bool p = primary_runs(w, r);
    if (p && w.backup_runs) return "two copies run";
    if (p && w.backup_ran) return "the primary runs on after the backup did";
    if (w.backup_ran && w.released > w.from) return "output was released that the failover forgets";
    if (w.from && w.whole > w.from) return "a checkpoint was taken after the start";
    if (w.backup_runs && w.discarded != Why::Not) return "the backup runs although it promised not to";
    if (w.primary == PrimaryState::Superseded && w.term != Term::ClosedByBackup && !w.backup_ran)
        return "the primary gave up without proof that the backup has the guest";
    if (w.discarded == Why::Refused && w.term != Term::ClosedByPrimary)
        return "the backup gave up without proof that the primary has the guest";
    return nullptr;
}

// No copy runs and none ever will, and that is how it must be.
inline bool lost_with_reason(const World& w) {
    const bool primary_over =
        !w.primary_alive || w.primary == PrimaryState::Superseded || w.primary == PrimaryState::Left;
    const bool backup_over = !w.backup_alive || w.backup == BackupState::Discarded;
    if (!primary_over || !backup_over) return false;
    if (w.term == Term::ClosedByBackup) return true;   // it had taken over, and its host failed then
    if (w.primary_alive) return false;                 // it gave up for nobody
    if (w.term == Term::ClosedByPrimary) return true;  // it was alone, and its host failed then
    return !w.backup_alive ||                          // both hosts failed
           w.discarded == Why::Dismissed ||            // the primary had ended protection
           w.discarded == Why::NeverWhole ||           // it had not begun
           w.discarded == Why::Broken;                 // both copies failed
}

}  // namespace proa::model
