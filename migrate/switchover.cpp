#include "migrate/switchover.hpp"

namespace proa::migrate {
namespace {

template <class E>
constexpr unsigned count() {
    return static_cast<unsigned>(E::Count);
}

// clang-format off
using S = SourceState;
using A = SourceAction;
constexpr SourceStep kSource[count<S>()][count<SourceEvent>()] = {
// StopGuest                        ReadyCame                       StartedCame                     Failed                          AnswerStarted                   AnswerNever                    OperatorResumes
/* Copying */
{{S::Stopped, A::FreezeAndSend},    {S::Resumed, A::ResumeGuest},   {S::Resumed, A::ResumeGuest},   {S::Resumed, A::ResumeGuest},   {S::Copying, A::None},          {S::Copying, A::None},         {S::Copying, A::None}},
/* Stopped */
{{S::Stopped, A::None},             {S::Committed, A::SendCommit},  {S::Resumed, A::ResumeGuest},   {S::Resumed, A::ResumeGuest},   {S::Stopped, A::None},          {S::Stopped, A::None},         {S::Stopped, A::None}},
/* Committed */
{{S::Committed, A::None},           {S::Committed, A::None},        {S::Done, A::ReleaseGuest},     {S::InDoubt, A::Ask},           {S::Done, A::ReleaseGuest},     {S::Resumed, A::ResumeGuest},  {S::Committed, A::None}},
/* InDoubt */
{{S::InDoubt, A::None},             {S::InDoubt, A::None},          {S::Done, A::ReleaseGuest},     {S::InDoubt, A::Ask},           {S::Done, A::ReleaseGuest},     {S::Resumed, A::ResumeGuest},  {S::Resumed, A::ResumeGuest}},
/* Done */
{{S::Done, A::None},                {S::Done, A::None},             {S::Done, A::None},             {S::Done, A::None},             {S::Done, A::None},             {S::Done, A::None},            {S::Done, A::None}},
/* Resumed */
{{S::Resumed, A::None},             {S::Resumed, A::None},          {S::Resumed, A::None},          {S::Resumed, A::None},          {S::Resumed, A::None},          {S::Resumed, A::None},         {S::Resumed, A::None}},
};

// A Commit before Ready is a broken source: refused. From Claiming on the link no longer matters.
using T = TargetState;
using B = TargetAction;
constexpr TargetStep kTarget[count<T>()][count<TargetEvent>()] = {
// StateLoaded                    CommitCame                      Granted                       Denied                          Runs                         CannotRun                       Failed
/* Receiving */
{{T::Loaded, B::SendReady},       {T::NeverStart, B::Discard},    {T::Receiving, B::None},      {T::Receiving, B::None},        {T::Receiving, B::None},     {T::Receiving, B::None},        {T::NeverStart, B::Discard}},
/* Loaded */
{{T::NeverStart, B::Discard},     {T::Claiming, B::Claim},        {T::Loaded, B::None},         {T::Loaded, B::None},           {T::Loaded, B::None},        {T::Loaded, B::None},           {T::NeverStart, B::Discard}},
/* Claiming */
{{T::Claiming, B::None},          {T::Claiming, B::None},         {T::Starting, B::Start},      {T::NeverStart, B::Discard},    {T::Claiming, B::None},      {T::Claiming, B::None},         {T::Claiming, B::None}},
/* Starting */
{{T::Starting, B::None},          {T::Starting, B::None},         {T::Starting, B::None},       {T::Starting, B::None},         {T::Started, B::Tell},       {T::NeverStart, B::Withdraw},   {T::Starting, B::None}},
/* Started */
{{T::Started, B::None},           {T::Started, B::None},          {T::Started, B::None},        {T::Started, B::None},          {T::Started, B::None},       {T::Started, B::None},          {T::Started, B::None}},
/* NeverStart */
{{T::NeverStart, B::None},        {T::NeverStart, B::None},       {T::NeverStart, B::None},     {T::NeverStart, B::None},       {T::NeverStart, B::None},    {T::NeverStart, B::None},       {T::NeverStart, B::None}},
};

// Asked while Starting gets no answer: whether it runs is being decided, or died undecided with its process.
using R = SessionState;
using Q = SessionAnswer;
constexpr SessionStep kSession[count<R>()][count<SessionEvent>()] = {
//               Prepared                 Claimed                   Ran                     Withdrawn             Asked
/* Unknown  */ {{R::Open, Q::None},      {R::Unknown, Q::Denied},  {R::Unknown, Q::None},  {R::Unknown, Q::None},  {R::Unknown, Q::DontKnow}},
/* Open     */ {{R::Open, Q::Denied},    {R::Starting, Q::Granted},{R::Open, Q::None},     {R::Open, Q::None},     {R::Never, Q::Never}},
/* Starting */ {{R::Starting, Q::Denied},{R::Starting, Q::Denied}, {R::Started, Q::None},  {R::Never, Q::None},    {R::Starting, Q::DontKnow}},
/* Started  */ {{R::Started, Q::Denied}, {R::Started, Q::Denied},  {R::Started, Q::None},  {R::Started, Q::None},  {R::Started, Q::Started}},
/* Never    */ {{R::Never, Q::Denied},   {R::Never, Q::Denied},    {R::Never, Q::None},    {R::Never, Q::None},    {R::Never, Q::Never}},
};
// clang-format on

}  // namespace

SourceStep step(SourceState s, SourceEvent e) {
    return kSource[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
}
TargetStep step(TargetState s, TargetEvent e) {
    return kTarget[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
}
SessionStep step(SessionState s, SessionEvent e) {
    return kSession[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
}

const char* name_of(SourceState s) {
    static const char* const names[] = {"copying", "stopped", "committed", "in doubt", "done", "resumed"};
    static_assert(sizeof(names) / sizeof(*names) == count<SourceState>());
    return names[static_cast<unsigned>(s)];
}
const char* name_of(TargetState s) {
    static const char* const names[] = {"receiving", "loaded",  "claiming",
                                        "starting",  "started", "never start"};
    static_assert(sizeof(names) / sizeof(*names) == count<TargetState>());
    return names[static_cast<unsigned>(s)];
}
const char* name_of(SessionState s) {
    static const char* const names[] = {"unknown", "open", "starting", "started", "never"};
    static_assert(sizeof(names) / sizeof(*names) == count<SessionState>());
    return names[static_cast<unsigned>(s)];
}

}  // namespace proa::migrate
