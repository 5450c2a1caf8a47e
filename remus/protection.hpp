// Who runs a protected guest: both sides as pure tables. The edges (primary.cpp, backup.cpp) carry actions out and feed
// events; tests/model explores every interleaving of them with a witness, lost messages, crashes and leases that expire.
//
// The rule everything hangs on: a host runs the guest only while it holds the witness's key, or before a backup exists that
// could claim it. Time enters in one place: the primary's fence fires before its lease can have expired at the witness.
#pragma once
#include <cstdint>

namespace proa::remus {

enum class PrimaryState : std::uint8_t {
    Claiming,   // runs, unprotected; asks the witness for the key
    Syncing,    // runs, unprotected, holds the key; the backup has no whole checkpoint and can't claim
    Protected,  // from just before the end of the first checkpoint is sent: output is held, the fence is armed
    HandingOver,  // stopped for good, the last checkpoint is on its way: a planned failover
    Yielded,      // stopped; the key is being given up to the backup
    Settling,  // runs, output held, fence armed; makes the key permanent so that the backup can't claim it any more
    Fenced,       // stopped by the fence; asks the witness whether the key is still its own
    Alone,        // runs, unprotected, output free; key permanent
    Unprotected,  // runs as before protection; nobody ever could have claimed; key released
    Superseded,   // the backup holds the key: this copy must end
    Left,         // handed over: this copy ends
    Count
};

enum class PrimaryEvent : std::uint8_t {
    Granted,      // claim: the key is ours
    Refused,      // claim: somebody has it
    FirstEnd,     // everything of checkpoint 1 but its end has been sent
    BackupLost,   // the connection failed, the backup refused or was silent for too long
    Stop,         // unprotect, or a sync that is given up
    HandOver,     // planned failover asked for
    LastAcked,    // HandingOver: the backup has the last checkpoint
    KeyReleased,  // Yielded: the witness has taken the key back
    TakenOver,    // Yielded: the backup says that it runs, or the witness that it holds the key
    Settled,      // the witness: permanent, ours
    NotOurs,      // the witness: another host holds the key
    FenceFired,   // proa-hv has stopped the guest
    Count
};

enum class PrimaryAction : std::uint8_t {
    None,
    Sync,        // begin sending memory
    HoldAndArm,  // hold output, arm the fence; then send the end of checkpoint 1
    Settle,      // ask the witness, again and again, to make the key permanent
    OpenOutput,  // let held output out, disarm the fence, end dirty logging
    Resume,      // the same, and the vCPUs go on
    FreezeLast,  // stop the guest and send the last checkpoint
    Yield,       // let the last epoch's output out, release the key, tell the backup
    ReleaseKey,  // nobody could have claimed it
    Destroy,     // drop held output, end this copy
    Count
};

struct PrimaryStep {
    PrimaryState next;
    PrimaryAction action;
};
PrimaryStep step(PrimaryState s, PrimaryEvent e);
const char* name_of(PrimaryState s);

enum class BackupState : std::uint8_t {
    Receiving,  // no whole checkpoint yet
    Standby,    // could run the guest from the last whole checkpoint
    Claiming,   // has lost its primary, or was told to take over: asks the witness for the key
    Starting,   // holds the key, takes no checkpoint any more; the guest is being started
    Active,     // runs the guest
    Discarded,  // never will
    Count
};

enum class BackupEvent : std::uint8_t {
    Committed,    // a whole checkpoint is applied
    PrimaryLost,  // heartbeats have stopped or the connection has failed
    PrimaryBack,  // heartbeats come again and the connection still stands
    Yours,        // the primary has yielded
    Dismissed,    // the primary doesn't need this backup any more (its key is permanent, or was never needed)
    Granted,      // claim: the key is ours
    HeldByLease,  // claim: the primary's lease still lives; ask again
    HeldForGood,  // claim: the primary has settled, or another host has taken over
    Runs,
    CannotRun,
    Count
};

enum class BackupAction : std::uint8_t {
    None,
    Claim,  // ask the witness, again and again
    StopClaiming,
    Start,       // load the last checkpoint's state and run
    Announce,    // runs: say so (to the primary, the log, the network)
    ReleaseKey,  // could not start: another may
    Discard,     // end this copy
    Count
};

struct BackupStep {
    BackupState next;
    BackupAction action;
};
BackupStep step(BackupState s, BackupEvent e);
const char* name_of(BackupState s);

}  // namespace proa::remus
