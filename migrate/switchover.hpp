// The switchover protocol as pure state machines (DESIGN.md, promises 1 to 3). Edges feed events and carry out
// actions; tests/model feeds every interleaving of loss, duplication, reordering, crash and restart.
//
//   source                         destination                                    destination's session record
//   Copying   --- pages, rounds -->  Receiving                                    Open
//   Stopped   --- StateComplete -->  (validates, loads everything)
//             <------- Ready ------  Loaded
//   Committed --- Commit --------->  Claiming  -- may I still start? ---------->  Starting (or refused: Never)
//                                    Starting  (vCPUs run)
//             <------ Started -----  Started   -- it runs ------------------->    Started
//   Done
//
// Sending Commit is the commit point. Before it every failure ends with the source running. After it the source never
// runs again unless an answer to Ask proves that the destination did not start and never will.
//
// Who answers Ask is the destination's host daemon, whatever has become of the process that received the guest, and
// whatever has become of the daemon itself since. So the truth is not in either process but in a durable record
// (session.hpp) whose moves are atomic: Open -> Starting is the only way to a running guest, Open -> Never the only way
// to the promise, and one excludes the other.
#pragma once
#include <cstdint>

namespace proa::migrate {

enum class SourceState : std::uint8_t { Copying, Stopped, Committed, InDoubt, Done, Resumed, Count };
enum class SourceEvent : std::uint8_t {
    StopGuest,    // pre-copy has converged (or was told to)
    ReadyCame,    // destination has loaded and checked everything
    StartedCame,  // destination runs the guest
    Failed,       // link lost, peer aborted, timeout, cancel, local error
    AnswerStarted,
    AnswerNever,      // the destination's host says: it did not start and never will
    OperatorResumes,  // a human vouches that the destination is dead
    Count
};
enum class SourceAction : std::uint8_t { None, FreezeAndSend, SendCommit, ResumeGuest, Ask, ReleaseGuest };

struct SourceStep {
    SourceState next;
    SourceAction action;
};
SourceStep step(SourceState s, SourceEvent e);

enum class TargetState : std::uint8_t { Receiving, Loaded, Claiming, Starting, Started, NeverStart, Count };
enum class TargetEvent : std::uint8_t {
    StateLoaded,  // everything arrived and was accepted
    CommitCame,
    Granted,    // the record is Starting now
    Denied,     // it was Never already, or is gone
    Runs,       // the guest's vCPUs run
    CannotRun,  // they don't, and never did
    Failed,     // link lost before Commit, peer aborted, state refused, timeout, nobody came
    Count
};
enum class TargetAction : std::uint8_t {
    None,
    SendReady,
    Claim,     // the record: Claimed
    Start,     // run the guest
    Tell,      // the record: Ran; then send Started
    Withdraw,  // the record: Withdrawn; then as Discard
    Discard
};

struct TargetStep {
    TargetState next;
    TargetAction action;
};
TargetStep step(TargetState s, TargetEvent e);

// Unknown: no record, or lost with the host's disk. Nothing can be promised then.
enum class SessionState : std::uint8_t { Unknown, Open, Starting, Started, Never, Count };
enum class SessionEvent : std::uint8_t {
    Prepared,   // this host agreed to take the guest
    Claimed,    // its receiver wants to start it
    Ran,        // it does run
    Withdrawn,  // it could not be run
    Asked,      // the source's host wants to know
    Count
};
enum class SessionAnswer : std::uint8_t { None, Granted, Denied, DontKnow, Started, Never };

struct SessionStep {
    SessionState next;
    SessionAnswer answer;
};
SessionStep step(SessionState s, SessionEvent e);

const char* name_of(SourceState s);
const char* name_of(TargetState s);
const char* name_of(SessionState s);

}  // namespace proa::migrate
