#include "migrate/switchover.hpp"

namespace proa::migrate {
namespace {

using S = SourceState;
using A = SourceAction;
constexpr unsigned kSources = static_cast<unsigned>(S::Count),
                   kSourceEvents = static_cast<unsigned>(SourceEvent::Count);

// Rows: state. Columns: StopGuest, ReadyCame, StartedCame, Failed, AnswerStarted, AnswerNever.
constexpr SourceStep kSource[kSources][kSourceEvents] = {
    /* Copying   */ {{S::Stopped, A::FreezeAndSend},
                     {S::Resumed, A::ResumeGuest},
                     {S::Resumed, A::ResumeGuest},
                     {S::Resumed, A::ResumeGuest},
                     {S::Copying, A::None},
                     {S::Copying, A::None}},
    /* Stopped   */
    {{S::Stopped, A::None},
     {S::Committed, A::SendCommit},
     {S::Resumed, A::ResumeGuest},
     {S::Resumed, A::ResumeGuest},
     {S::Stopped, A::None},
     {S::Stopped, A::None}},
    /* Committed */
    {{S::Committed, A::None},
     {S::Committed, A::None},
     {S::Done, A::ReleaseGuest},
     {S::InDoubt, A::Ask},
     {S::Done, A::ReleaseGuest},
     {S::Resumed, A::ResumeGuest}},
    /* InDoubt   */
    {{S::InDoubt, A::None},
     {S::InDoubt, A::None},
     {S::Done, A::ReleaseGuest},
     {S::InDoubt, A::Ask},
     {S::Done, A::ReleaseGuest},
     {S::Resumed, A::ResumeGuest}},
    /* Done      */
    {{S::Done, A::None},
     {S::Done, A::None},
     {S::Done, A::None},
     {S::Done, A::None},
     {S::Done, A::None},
     {S::Done, A::None}},
    /* Resumed   */
    {{S::Resumed, A::None},
     {S::Resumed, A::None},
     {S::Resumed, A::None},
     {S::Resumed, A::None},
     {S::Resumed, A::None},
     {S::Resumed, A::None}},
};

using T = TargetState;
using B = TargetAction;
constexpr unsigned kTargets = static_cast<unsigned>(T::Count),
                   kTargetEvents = static_cast<unsigned>(TargetEvent::Count);

// Columns: StateLoaded, CommitCame, Failed, Asked. A Commit before Ready is a broken source: refused.
constexpr TargetStep kTarget[kTargets][kTargetEvents] = {
    /* Receiving  */ {{T::Loaded, B::SendReady},
                      {T::NeverStart, B::Discard},
                      {T::NeverStart, B::Discard},
                      {T::NeverStart, B::PromiseNever}},
    /* Loaded     */
    {{T::NeverStart, B::Discard},
     {T::Started, B::StartAndTell},
     {T::NeverStart, B::Discard},
     {T::NeverStart, B::PromiseNever}},
    /* Started    */
    {{T::Started, B::None}, {T::Started, B::None}, {T::Started, B::None}, {T::Started, B::TellStarted}},
    /* NeverStart */
    {{T::NeverStart, B::None},
     {T::NeverStart, B::None},
     {T::NeverStart, B::None},
     {T::NeverStart, B::PromiseNever}},
};

}  // namespace

SourceStep step(SourceState s, SourceEvent e) {
    return kSource[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
}
TargetStep step(TargetState s, TargetEvent e) {
    return kTarget[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
}

const char* name_of(SourceState s) {
    static const char* const names[] = {"copying", "stopped", "committed", "in doubt", "done", "resumed"};
    return names[static_cast<unsigned>(s)];
}
const char* name_of(TargetState s) {
    static const char* const names[] = {"receiving", "loaded", "started", "never start"};
    return names[static_cast<unsigned>(s)];
}

}  // namespace proa::migrate
