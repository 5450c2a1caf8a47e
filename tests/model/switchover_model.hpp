// Two hosts, the messages between them and everything that can go wrong, around the REAL tables of migrate/switchover.
// What the edges in migrate/{outgoing,incoming,peer_service}.cpp do for an action is written here as what it does to
// the two hosts; the order of their steps is the order of the states here, with a crash possible between any two.
#pragma once
#include <compare>
#include <cstdint>

#include "migrate/switchover.hpp"

namespace proa::model {

using namespace proa::migrate;

// Up to kCopies of each may be under way; which of them arrives next is anyone's guess.
enum Message : unsigned { State, Ready, Commit, Started, Abort, Question, SaysStarted, SaysNever, kMessages };
inline constexpr unsigned kCopies = 2;

// What the target's process still has to do, one durable step at a time.
enum class Duty : std::uint8_t { None, Claim, Run, Record };

// Knobs that spoil the protocol on purpose: a model that finds nothing wrong with those would prove nothing.
struct Rules {
    bool unknown_means_never = false;     // a daemon without a record promises anyway
    bool promise_is_forgotten = false;    // Never is answered and not written down
    bool start_without_claim = false;     // the record is written after the guest runs
    bool doubt_resumes = false;           // an unanswered source resumes by itself
    bool record_survives_a_crash = true;  // false: the state directory was on a RAM disk
};

struct World {
    // Source: its process and guest. It is not restarted: proa-hv stops the guest of a dead process.
    SourceState source = SourceState::Copying;
    bool source_alive = true, source_runs = true;
    // Destination: process, guest, daemon and disk.
    TargetState target = TargetState::Receiving;
    Duty duty = Duty::None;
    bool target_alive = true, target_runs = false, daemon_alive = true;
    SessionState record = SessionState::Open;
    std::uint8_t wire[kMessages] = {};
    bool question_out = false;  // the source asks one question at a time
    // History.
    bool committed = false, target_ever_ran = false, promised = false;
    auto operator<=>(const World&) const = default;
};

class Switchover {
  public:
    explicit Switchover(Rules rules) : rules_(rules) {}

    // Everything that may happen next; `faults`: also what only a fault does.
    template <class Visit>
    void next(const World& w, Visit&& visit, bool faults = true) const {
        source_steps(w, visit);
        target_steps(w, visit);
        deliveries(w, visit, faults);
        if (faults) crashes(w, visit);
        if (!w.daemon_alive) {
            World n = w;
            n.daemon_alive = true;
            visit(n, "the destination's daemon restarts");
        }
    }

  private:
    static void put(World& w, Message m) {
        if (w.wire[m] < kCopies) ++w.wire[m];
    }

    void source_event(World& w, SourceEvent e) const {
        const SourceStep s = step(w.source, e);
        w.source = s.next;
        switch (s.action) {
            case SourceAction::FreezeAndSend:
                w.source_runs = false;
                put(w, State);
                break;
            case SourceAction::SendCommit:
                w.committed = true;
                put(w, Commit);
                break;
            case SourceAction::ResumeGuest: w.source_runs = true; break;
            case SourceAction::Ask:
                if (rules_.doubt_resumes) {
                    w.source = SourceState::Resumed;
                    w.source_runs = true;
                } else if (!w.question_out) {
                    w.question_out = true;
                    put(w, Question);
                }
                break;
            case SourceAction::ReleaseGuest:
            case SourceAction::None: break;
        }
    }

    void target_event(World& w, TargetEvent e) const {
        const TargetStep s = step(w.target, e);
        w.target = s.next;
        switch (s.action) {
            case TargetAction::SendReady: put(w, Ready); break;
            case TargetAction::Claim: w.duty = rules_.start_without_claim ? Duty::Run : Duty::Claim; break;
            case TargetAction::Start: w.duty = Duty::Run; break;
            case TargetAction::Tell:
                put(w, Started);
                w.duty = Duty::Record;
                break;
            case TargetAction::Withdraw:
                w.record = step(w.record, SessionEvent::Withdrawn).next;
                put(w, Abort);
                break;
            case TargetAction::Discard: put(w, Abort); break;
            case TargetAction::None: break;
        }
    }

    template <class Visit>
    void source_steps(const World& w, Visit&& visit) const {
        if (!w.source_alive) return;
        const auto after = [&](SourceEvent e, const char* what) {
            World n = w;
            source_event(n, e);
            if (n != w) visit(n, what);
        };
        if (w.source == SourceState::Copying) after(SourceEvent::StopGuest, "the source stops its guest");
        // A deadline needs no fault but its message's loss; a lost link or a cancel looks the same.
        after(SourceEvent::Failed, "the source gives the link up");
        if (w.source == SourceState::InDoubt && w.question_out) {
            World n = w;
            n.question_out = false;  // unanswered; --resolve asks again
            visit(n, "the source's question times out");
        }
    }

    template <class Visit>
    void target_steps(const World& w, Visit&& visit) const {
        if (!w.target_alive) return;
        World n = w;
        target_event(n, TargetEvent::Failed);
        if (n != w) visit(n, "the target gives the link up");
        if (w.duty == Duty::None) return;
        n = w;
        n.duty = Duty::None;
        if (w.duty == Duty::Claim) {
            const SessionStep s = step(w.record, SessionEvent::Claimed);
            n.record = s.next;
            target_event(n, s.answer == SessionAnswer::Granted ? TargetEvent::Granted : TargetEvent::Denied);
            return visit(n, "the target claims the start");
        }
        if (w.duty == Duty::Record) {
            n.record =
                rules_.start_without_claim ? SessionState::Started : step(w.record, SessionEvent::Ran).next;
            return visit(n, "the target records that it runs");
        }
        n.target = TargetState::Starting;
        World broken = n;
        n.target_runs = n.target_ever_ran = true;
        target_event(n, TargetEvent::Runs);
        visit(n, "the guest runs at the target");
        target_event(broken, TargetEvent::CannotRun);
        visit(broken, "the guest cannot be run at the target");
    }

    void deliver(World& n, Message m) const {
        switch (m) {
            case State:
                if (n.target_alive) target_event(n, TargetEvent::StateLoaded);
                return;
            case Commit:
                if (n.target_alive) target_event(n, TargetEvent::CommitCame);
                return;
            case Abort:
                if (n.source_alive) source_event(n, SourceEvent::Failed);
                return;
            case Ready:
                if (n.source_alive) source_event(n, SourceEvent::ReadyCame);
                return;
            case Started:
                if (n.source_alive) source_event(n, SourceEvent::StartedCame);
                return;
            case SaysStarted:
                if (n.source_alive) source_event(n, SourceEvent::AnswerStarted);
                return;
            case SaysNever:
                if (n.source_alive) source_event(n, SourceEvent::AnswerNever);
                return;
            case Question: return answer(n);
            default: return;
        }
    }

    void answer(World& n) const {
        if (!n.daemon_alive) return;
        const SessionStep s = step(n.record, SessionEvent::Asked);
        if (!rules_.promise_is_forgotten) n.record = s.next;
        if (s.answer == SessionAnswer::Started) return put(n, SaysStarted);
        if (s.answer != SessionAnswer::Never && !rules_.unknown_means_never) return;
        if (s.answer == SessionAnswer::Never) n.promised = true;
        put(n, SaysNever);
    }

    template <class Visit>
    void deliveries(const World& w, Visit&& visit, bool faults) const {
        static const char* const arrives[] = {"State arrives",     "Ready arrives",  "Commit arrives",
                                              "Started arrives",   "Abort arrives",  "a question arrives",
                                              "'started' arrives", "'never' arrives"};
        static const char* const twice[] = {"State arrives, and stays",     "Ready arrives, and stays",
                                            "Commit arrives, and stays",    "Started arrives, and stays",
                                            "Abort arrives, and stays",     "a question arrives, and stays",
                                            "'started' arrives, and stays", "'never' arrives, and stays"};
        for (unsigned m = 0; m < kMessages; ++m) {
            if (w.wire[m] == 0) continue;
            World n = w;
            --n.wire[m];
            if (faults) visit(n, "a message is lost");
            deliver(n, static_cast<Message>(m));
            visit(n, arrives[m]);
            if (!faults) continue;
            n = w;  // duplicated: one more of it is still to come
            deliver(n, static_cast<Message>(m));
            if (n != w) visit(n, twice[m]);
        }
    }

    template <class Visit>
    void crashes(const World& w, Visit&& visit) const {
        World n = w;
        if (w.source_alive) {
            n.source_alive = n.source_runs = false;
            visit(n, "the source dies");
        }
        n = w;
        if (w.target_alive) {
            n.target_alive = n.target_runs = false;
            n.duty = Duty::None;
            visit(n, "the target's process dies");
        }
        if (w.daemon_alive) {
            n = w;
            n.daemon_alive = false;
            visit(n, "the destination's daemon dies");
        }
        if (w.target_alive || w.daemon_alive) {
            n = w;
            n.target_alive = n.target_runs = n.daemon_alive = false;
            n.duty = Duty::None;
            if (!rules_.record_survives_a_crash) n.record = SessionState::Unknown;
            visit(n, "the destination host dies");
        }
    }

    Rules rules_;
};

}  // namespace proa::model
