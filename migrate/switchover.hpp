// The switchover protocol as two pure state machines (DESIGN.md, promises 1 to 3). An edge feeds events and carries
// out actions; tests/model feeds every interleaving of loss, crash and timeout.
//
//   source                         destination
//   Copying   --- pages, rounds -->  Receiving
//   Stopped   --- StateComplete -->  (validates, loads everything)
//             <------- Ready ------  Loaded
//   Committed --- Commit --------->  Started      the commit point is the sending of Commit
//             <------ Started -----
//   Done
//
// Before Commit every failure ends with the source running. After it the source never runs again unless an answer to
// Ask proves that the destination did not start and never will (it promises so by answering).
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
    AnswerNever,  // the destination's host says: it did not start and never will
    Count
};
enum class SourceAction : std::uint8_t { None, FreezeAndSend, SendCommit, ResumeGuest, Ask, ReleaseGuest };

struct SourceStep {
    SourceState next;
    SourceAction action;
};
SourceStep step(SourceState s, SourceEvent e);

enum class TargetState : std::uint8_t { Receiving, Loaded, Started, NeverStart, Count };
enum class TargetEvent : std::uint8_t {
    StateLoaded,  // everything arrived and was accepted
    CommitCame,
    Failed,  // link lost before Commit, peer aborted, state refused, timeout
    Asked,   // the source's host wants to know
    Count
};
enum class TargetAction : std::uint8_t { None, SendReady, StartAndTell, Discard, TellStarted, PromiseNever };

struct TargetStep {
    TargetState next;
    TargetAction action;
};
TargetStep step(TargetState s, TargetEvent e);

const char* name_of(SourceState s);
const char* name_of(TargetState s);

}  // namespace proa::migrate
