// Who runs a protected guest: both sides as pure tables. The edges (primary.cpp, backup.cpp) carry actions out and feed
// events; tests/model explores every interleaving of them with a witness, lost messages, crashes and leases that expire.
// docs/HA.md tells it as prose.
//
//   primary                                    witness                                  backup
//   Claiming -- claim: a new term ---------->  leased to the primary
//   Syncing  -- memory and disks, live ----------------------------------------------->  Receiving
//   Protected: output is held and the fence armed at the pause of the first checkpoint that counts
//            -- checkpoint i, its End ------------------------------------------------>  Standby
//            <- Ack(i): only now the output of epoch i leaves --------------------------
//   (dies)                                     the lease expires  <- claim, again ----  Claiming
//                                              leased to the backup -- granted ------->  Loading: no checkpoint any more
//                                              settled, the backup's <- settle --------  Deciding
//                                                                  -- yes ------------>  Starting, Active
//
// The rules everything hangs on:
// - A claim decides nothing, `settle` does: the first to settle a term has the guest for good, and says so nowhere else.
//   So a claim may be given up, repeated, answered late or lost without anybody being the worse for it.
// - The primary runs the guest while its lease lives, or once it has settled, or before a backup exists that could take
//   over, or on the backup's word that it never will. Else it is stopped: by its fence, which proa-hv watches and which
//   fires before the lease can have expired at the witness. Time enters nowhere else.
// - The backup runs it only after it has settled. From a claim granted on it takes no checkpoint, so that what it starts
//   from is at least what it has acknowledged.
#pragma once
#include <cstdint>

namespace proa::remus {

enum class PrimaryState : std::uint8_t {
    Claiming,     // runs, unprotected; asks the witness for the key
    Syncing,      // runs, unprotected, holds the key; the backup has no whole checkpoint and can't claim
    Protected,    // from the pause of the first checkpoint that counts: output is held, the fence is armed
    HandingOver,  // stopped, the last checkpoint is on its way: a planned failover
    Yielded,      // stopped; the key is given up for the backup to take
    Settling,     // runs, output held, fence armed; wants to run alone and asks whether it may
    Fenced,       // as Settling, but stopped: by the fence, or for a handover that failed
    Alone,        // runs, unprotected, output free: the key is its own for good, or the backup has given up
    Unprotected,  // runs as before protection; nobody ever could have claimed; key released
    Superseded,   // the backup has the guest: this copy must end
    Left,         // handed over: this copy ends
    Count
};

enum class PrimaryEvent : std::uint8_t {
    Granted,     // claim: the key is ours
    Refused,     // claim: somebody has it
    FirstPause,  // the guest is paused for the first checkpoint that the backup may start from
    BackupLost,  // the connection failed or the backup was silent for too long; the connection is closed
    BackupGone,  // the backup's word: it has not run the guest and never will (it can't, or Settle has asked it to)
    Stop,        // unprotect; or the witness is silent and the fence draws near
    HandOver,    // planned failover asked for
    LastAcked,   // HandingOver: the backup has the last checkpoint
    TakenOver,   // the backup says that it runs
    Settled,     // the witness: ours, for good
    NotOurs,     // the witness: the backup's, for good. Not: somebody has a lease on it (Answer::Contested)
    FenceFired,  // proa-hv has stopped the guest
    Count
};

enum class PrimaryAction : std::uint8_t {
    None,
    Sync,  // begin sending memory
    HoldAndArm,  // before the vCPUs go on: hold output and arm the fence. The End of this checkpoint may be sent after it
    Settle,  // ask the witness, again and again, to settle; and the backup (Dismiss), while the connection stands
    OpenOutput,  // let held output out, disarm the fence, end dirty logging, dismiss the backup
    Resume,      // the same, and the vCPUs go on if they don't. May come twice
    FreezeLast,  // stop the guest and send the last checkpoint
    Yield,  // let the last epoch's output out, stop renewing, release the key, tell the backup (whatever the witness says)
    ReleaseKey,  // nobody could have claimed it: end dirty logging, dismiss the backup
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
    Receiving,  // no checkpoint yet that it may start from
    Standby,    // could run the guest from the last whole checkpoint
    Claiming,   // suspects its primary: asks the witness for the key, takes checkpoints all the same
    Invited,    // the same, but the primary has yielded: nothing to go back to
    Loading,    // was granted the key; no checkpoint is taken from here on. It may still turn back
    Deciding,   // asks to settle, and doesn't turn back before it has an answer
    Starting,   // has settled: the guest's vCPUs are being started
    Active,     // runs the guest, alone
    Discarded,  // has not run it and never will
    Count
};

enum class BackupEvent : std::uint8_t {
    Committed,    // a whole checkpoint is applied whose output the primary holds since its pause
    PrimaryLost,  // heartbeats have stopped or the connection has failed
    PrimaryBack,  // heartbeats come again and the connection still stands; with every heartbeat
    Yours,        // the primary has yielded
    Dismissed,    // the primary doesn't need this backup any more, or asks to be let go
    Granted,      // claim: the key is leased to us
    HeldByLease,  // claim: the primary's lease still lives; ask again
    HeldForGood,  // claim or settle: the primary has settled, or the guest has moved on. Final
    Loaded,       // machine and devices have taken the last checkpoint's state
    Settled,      // the witness: ours, for good
    Runs,
    CannotRun,  // a record that is refused, a disk that fails, a state that can't be loaded, vCPUs that can't be started
    Count
};

enum class BackupAction : std::uint8_t {
    None,
    Claim,  // ask the witness, again and again
    StopClaiming,
    Load,        // apply what is whole, drop what is not, load the last checkpoint's state
    Settle,      // ask the witness, again and again, to settle
    Run,         // start the vCPUs
    Announce,    // runs: say so (to the primary, the log, the network)
    ReleaseKey,  // a claim that isn't wanted any more
    Discard,     // give the key back if it may be ours, tell the primary (it is a promise), end this copy
    Count
};

struct BackupStep {
    BackupState next;
    BackupAction action;
};
BackupStep step(BackupState s, BackupEvent e);
const char* name_of(BackupState s);

}  // namespace proa::remus
