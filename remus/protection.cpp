#include "remus/protection.hpp"

namespace proa::remus {
namespace {

template <class E>
constexpr unsigned count() {
    return static_cast<unsigned>(E::Count);
}

// Both tables: `_` means that nothing happens. Rows and columns are explained where the header names them; short names
// for the cells keep a row on a line.
// clang-format off
namespace primary {
using S = PrimaryState;
using A = PrimaryAction;
constexpr PrimaryStep _{S::Count, A::None};
constexpr PrimaryStep Sync  {S::Syncing, A::Sync},         Arm   {S::Protected, A::HoldAndArm}, Freeze{S::HandingOver, A::FreezeLast},
                      Settle{S::Settling, A::Settle},      Halt  {S::Fenced, A::Settle},        Fenced{S::Fenced, A::None},
                      Open  {S::Alone, A::OpenOutput},     Resume{S::Alone, A::Resume},         Yield {S::Yielded, A::Yield},
                      Free  {S::Unprotected, A::ReleaseKey}, Never{S::Unprotected, A::None},
                      Die   {S::Superseded, A::Destroy},   Leave {S::Left, A::Destroy};
constexpr PrimaryStep kTable[count<S>()][count<PrimaryEvent>()] = {
//                  Granted   Refused   FirstPause  BackupLost  BackupGone  Stop      HandOver  LastAcked  TakenOver  Settled   NotOurs   FenceFired
/* Claiming */     {Sync,     Never,    _,          Free,       Free,       Free,     _,        _,         _,         _,        _,        _},
/* Syncing */      {_,        _,        Arm,        Free,       Free,       Free,     _,        _,         _,         _,        _,        _},
/* Protected */    {_,        _,        _,          Settle,     Open,       Settle,   Freeze,   _,         Die,       _,        _,        Halt},
// HandingOver: the fence has nothing to stop, and the witness isn't needed until the key is given up
/* HandingOver */  {_,        _,        _,          Halt,       Resume,     Halt,     _,        Yield,     Die,       _,        _,        _},
/* Yielded */      {_,        _,        _,          Halt,       Resume,     Halt,     _,        _,         Leave,     _,        _,        _},
/* Settling */     {_,        _,        _,          _,          Open,       _,        _,        _,         Die,       Open,     Die,      Fenced},
/* Fenced */       {_,        _,        _,          _,          Resume,     _,        _,        _,         Die,       Resume,   Die,      _},
// Alone: the fence may have fired before it was disarmed, and be heard of only now
/* Alone */        {_,        _,        _,          _,          _,          _,        _,        _,         _,         _,        _,        Resume},
// Unprotected: a claim that was given up may be granted after all
/* Unprotected */  {Free,     _,        _,          _,          _,          _,        _,        _,         _,         _,        _,        _},
/* Superseded */   {_,        _,        _,          _,          _,          _,        _,        _,         _,         _,        _,        _},
/* Left */         {_,        _,        _,          _,          _,          _,        _,        _,         _,         _,        _,        _},
};
}  // namespace primary

namespace backup {
using T = BackupState;
using B = BackupAction;
constexpr BackupStep _{T::Count, B::None};
constexpr BackupStep Ready {T::Standby, B::None},     Claim {T::Claiming, B::Claim},   Back  {T::Standby, B::StopClaiming},
                     Accept{T::Invited, B::Claim},    GoOn  {T::Invited, B::None},     Load  {T::Loading, B::Load},
                     Decide{T::Deciding, B::Settle},  Run   {T::Starting, B::Run},     Say   {T::Active, B::Announce},
                     End   {T::Discarded, B::Discard}, GiveUp{T::Standby, B::ReleaseKey}, Drop{T::Discarded, B::ReleaseKey};
constexpr BackupStep kTable[count<T>()][count<BackupEvent>()] = {
//                  Committed  PrimaryLost  PrimaryBack  Yours     Dismissed  Granted   HeldByLease  HeldForGood  Loaded    Settled   Runs      CannotRun
/* Receiving */    {Ready,     End,         _,           _,        End,       _,        _,           _,           _,        _,        _,        End},
// Standby: answers may come late, to claims that were given up
/* Standby */      {_,         Claim,       _,           Accept,   End,       GiveUp,   _,           End,         _,        _,        _,        End},
/* Claiming */     {_,         _,           Back,        GoOn,     End,       Load,     _,           End,         _,        _,        _,        End},
/* Invited */      {_,         _,           _,           _,        End,       Load,     _,           End,         _,        _,        _,        End},
/* Loading */      {_,         _,           _,           _,        End,       _,        _,           End,         Decide,   _,        _,        End},
// Deciding: the witness may have said yes: no promise can be given
/* Deciding */     {_,         _,           _,           _,        _,         _,        _,           End,         _,        Run,      _,        _},
/* Starting */     {_,         _,           _,           _,        _,         _,        _,           _,           _,        _,        Say,      End},
/* Active */       {_,         _,           _,           _,        _,         _,        _,           _,           _,        _,        _,        _},
/* Discarded */    {_,         _,           _,           _,        _,         Drop,     _,           _,           _,        _,        _,        _},
};
}  // namespace backup
// clang-format on

}  // namespace

PrimaryStep step(PrimaryState s, PrimaryEvent e) {
    const PrimaryStep to = primary::kTable[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
    return to.next == PrimaryState::Count ? PrimaryStep{s, PrimaryAction::None} : to;
}
BackupStep step(BackupState s, BackupEvent e) {
    const BackupStep to = backup::kTable[static_cast<unsigned>(s)][static_cast<unsigned>(e)];
    return to.next == BackupState::Count ? BackupStep{s, BackupAction::None} : to;
}

const char* name_of(PrimaryState s) {
    static const char* const names[] = {"claiming",    "syncing",    "protected", "handing over",
                                        "yielded",     "settling",   "fenced",    "alone",
                                        "unprotected", "superseded", "left"};
    static_assert(sizeof(names) / sizeof(*names) == count<PrimaryState>());
    return names[static_cast<unsigned>(s)];
}
const char* name_of(BackupState s) {
    static const char* const names[] = {"receiving", "standby",  "claiming", "invited",  "loading",
                                        "deciding",  "starting", "active",   "discarded"};
    static_assert(sizeof(names) / sizeof(*names) == count<BackupState>());
    return names[static_cast<unsigned>(s)];
}

}  // namespace proa::remus
