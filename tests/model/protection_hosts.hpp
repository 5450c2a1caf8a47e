// The two hosts of a protected guest around the REAL tables of remus/protection: what they may do next, what they may hear,
// and what the edges do for an action, as what it does to the world. Steps that take time are states of their own, with a
// crash possible between.
#pragma once
#include <algorithm>

#include "tests/model/protection_world.hpp"

namespace proa::model {

// Which cells of the tables the exploration has used.
struct Coverage {
    bool primary[static_cast<unsigned>(PrimaryState::Count)][static_cast<unsigned>(PrimaryEvent::Count)] = {};
    bool backup[static_cast<unsigned>(BackupState::Count)][static_cast<unsigned>(BackupEvent::Count)] = {};
};

class Hosts {
  public:
    // `unacknowledged`: how many checkpoints may be under way at a time.
    Hosts(const Rules& rules, unsigned epochs, unsigned unacknowledged, Coverage* coverage)
        : rules_(rules),
          last_(static_cast<std::uint8_t>(2 * epochs)),
          unacknowledged_(unacknowledged),
          coverage_(coverage) {}

    // --- the primary ---

    template <class Visit>
    void primary_works(const World& w, Visit&& visit) const {
        using P = PrimaryState;
        const auto after = [&](PrimaryEvent e, const char* what) {
            World n = w;
            primary(n, e);
            visit(n, what);
        };
        World n = w;
        if (w.primary == P::Claiming) {
            n.requests |= PrimaryClaims;
            visit(n, "the primary claims the key");
        }
        if (w.primary == P::Settling || w.primary == P::Fenced) {
            n.requests |= PrimarySettles;
            visit(n, "the primary asks to settle");
        }
        if (w.primary == P::Syncing && w.up)
            after(PrimaryEvent::FirstPause, "the guest is paused for checkpoint 1");
        if ((w.primary == P::Protected || w.primary == P::HandingOver) && w.up && !whole(w.sent)) {
            n = w;
            send_half(n);
            if (rules_.released_when_sent) n.released = std::max<std::uint8_t>(n.released, n.sent / 2);
            visit(n, "the primary sends an End");
        }
        if (rules_.armed_after_end && w.primary == P::Protected && w.fence == Fence::Off && whole(w.sent)) {
            n = w;
            arm(n);
            visit(n, "the primary arms its fence");
        }
        if (w.primary == P::Protected && w.up && whole(w.sent) && w.sent < last_ &&
            w.acked + unacknowledged_ > w.sent / 2) {
            n = w;
            send_half(n);
            visit(n, "the guest is paused for a checkpoint");
        }
        if (w.primary == P::HandingOver && whole(w.sent) && w.acked == w.sent / 2)
            after(PrimaryEvent::LastAcked, "the last checkpoint is acknowledged");
        if (w.primary == P::Fenced && rules_.fenced_resumes)
            after(PrimaryEvent::Settled, "the fenced guest goes on");
    }

    template <class Visit>
    void primary_hears(const World& w, Visit&& visit, bool faults) const {
        const auto after = [&](World n, PrimaryEvent e, const char* what) {
            primary(n, e);
            visit(n, what);
        };
        World n = w;
        n.fence_news = 0;
        if (w.fence_news && rules_.alone_ignores_fence && w.primary == PrimaryState::Alone) {
            visit(n, "the primary ignores its fence");
        } else if (w.fence_news) {
            after(n, PrimaryEvent::FenceFired, "the primary hears that its fence has fired");
        }
        n = w;
        n.primary_knows = 1;
        if (!w.up && !w.primary_knows)
            after(n, PrimaryEvent::BackupLost, "the primary finds the connection broken");
        if (w.up && faults) {
            n.up = 0;
            after(n, PrimaryEvent::BackupLost, "the primary gives the connection up");
        }
        if (!w.primary_knows && w.acked < w.acks) {
            n = w;
            ++n.acked;
            // Fenced: whatever is held waits for the witness.
            if (w.primary == PrimaryState::Protected || w.primary == PrimaryState::Settling ||
                w.primary == PrimaryState::HandingOver)
                n.released = std::max(n.released, n.acked);
            visit(n, "an Ack arrives");
        } else if (!w.primary_knows && w.word != LastWord::None) {
            n = w;
            n.word = LastWord::None;
            if (w.word == LastWord::Active) after(n, PrimaryEvent::TakenOver, "the backup says that it runs");
            if (w.word == LastWord::Gone)
                after(n, PrimaryEvent::BackupGone, "the backup says that it never will run");
        }
        const auto answer = [&](PrimaryAnswer a, PrimaryEvent e, const char* what) {
            if (!(w.primary_answers & a)) return;
            World m = w;
            m.primary_answers &= static_cast<std::uint8_t>(~a);
            after(m, e, what);
        };
        answer(SaysGranted, PrimaryEvent::Granted, "the primary hears that the key is its own");
        answer(SaysRefused, PrimaryEvent::Refused, "the primary hears that the key is another's");
        answer(SaysSettled, PrimaryEvent::Settled, "the primary hears that it has settled");
        answer(SaysNotOurs, PrimaryEvent::NotOurs, "the primary hears that the backup has settled");
    }

    template <class Visit>
    void operator_acts(const World& w, Visit&& visit) const {
        if (!w.primary_alive || w.frozen) return;
        World n = w;
        primary(n, PrimaryEvent::Stop);
        visit(n, "protection is to stop");
        if (w.primary != PrimaryState::Protected || !w.up || !whole(w.sent) || w.sent >= last_ ||
            w.acked + unacknowledged_ <= w.sent / 2)
            return;
        n = w;
        primary(n, PrimaryEvent::HandOver);
        visit(n, "the guest is to be handed over");
    }

    // --- the backup ---

    template <class Visit>
    void backup_works(const World& w, Visit&& visit, bool faults) const {
        using B = BackupState;
        const auto after = [&](BackupEvent e, const char* what) {
            World n = w;
            if (e == BackupEvent::Runs) n.backup_runs = n.backup_ran = 1;
            backup(n, e);
            visit(n, what);
        };
        World n = w;
        if (w.backup == B::Claiming || w.backup == B::Invited) {
            n.requests |= BackupClaims;
            visit(n, "the backup claims the key");
        }
        if (w.backup == B::Deciding) {
            n.requests |= BackupSettles;
            visit(n, "the backup asks to settle");
        }
        if (w.backup == B::Loading) after(BackupEvent::Loaded, "the backup has loaded the last checkpoint");
        if (w.backup == B::Starting) after(BackupEvent::Runs, "the guest runs at the backup");
        if (faults && w.backup != B::Discarded && w.backup != B::Active)
            after(BackupEvent::CannotRun, "the backup's copy turns out to be of no use");
    }

    template <class Visit>
    void backup_hears(const World& w, Visit&& visit, bool faults) const {
        const auto after = [&](World n, BackupEvent e, const char* what) {
            backup(n, e);
            visit(n, what);
        };
        World n = w;
        n.backup_knows = 1;
        if (!w.up && !w.backup_knows)
            after(n, BackupEvent::PrimaryLost, "the backup finds the connection broken");
        if (w.up && faults) after(w, BackupEvent::PrimaryLost, "the backup misses heartbeats");
        if (w.up && rules_.heartbeat_calls_invited_off && w.backup == BackupState::Invited) {
            n = w;
            n.backup = BackupState::Standby;
            visit(n, "the backup hears a heartbeat");
        } else if (w.up) {
            after(w, BackupEvent::PrimaryBack, "the backup hears a heartbeat");
        }
        if (!w.backup_knows) backup_reads(w, visit);
        const auto answer = [&](BackupAnswer a, BackupEvent e, const char* what) {
            if (!(w.backup_answers & a)) return;
            World m = w;
            m.backup_answers &= static_cast<std::uint8_t>(~a);
            after(m, e, what);
        };
        answer(ToldGranted, BackupEvent::Granted, "the backup hears that the key is leased to it");
        answer(ToldByLease, BackupEvent::HeldByLease, "the backup hears of the primary's lease");
        answer(ToldForGood, BackupEvent::HeldForGood, "the backup hears that the primary has settled");
        answer(ToldSettled, BackupEvent::Settled, "the backup hears that it has settled");
    }

  private:
    // --- the tables, and what their actions do ---

    void primary(World& w, PrimaryEvent e) const {
        if (coverage_ != nullptr)
            coverage_->primary[static_cast<unsigned>(w.primary)][static_cast<unsigned>(e)] = true;
        const remus::PrimaryStep s = step(w.primary, e);
        w.primary = s.next;
        switch (s.action) {
            case PrimaryAction::HoldAndArm:
                if (rules_.held_from_end) w.released = 2;
                if (!rules_.armed_after_end) arm(w);
                send_half(w);
                break;
            case PrimaryAction::Settle:
                w.requests |= PrimarySettles;
                if (dismiss(w) && rules_.open_when_dismissing) primary(w, PrimaryEvent::BackupGone);
                if (rules_.open_without_settling) primary(w, PrimaryEvent::Settled);
                break;
            case PrimaryAction::OpenOutput:
                w.released = kEverything;
                if (w.fence == Fence::Armed) w.fence = Fence::Off;
                dismiss(w);
                break;
            case PrimaryAction::Resume:
                w.released = kEverything;
                w.fence = Fence::Off;
                w.vcpus = 1;
                dismiss(w);
                break;
            case PrimaryAction::FreezeLast:
                w.vcpus = 0;
                send_half(w);
                break;
            case PrimaryAction::Yield:
                if (!rules_.yield_keeps_key) w.requests |= PrimaryReleases;
                if (w.up) w.yours = Message::UnderWay;
                break;
            case PrimaryAction::ReleaseKey:
                w.requests |= PrimaryReleases;
                w.released = kEverything;
                dismiss(w);
                break;
            case PrimaryAction::Destroy: w.vcpus = w.up = 0; break;
            default: break;  // nothing that matters here
        }
    }

    void backup(World& w, BackupEvent e) const {
        if (coverage_ != nullptr)
            coverage_->backup[static_cast<unsigned>(w.backup)][static_cast<unsigned>(e)] = true;
        const BackupState was = w.backup;
        const remus::BackupStep s = step(was, e);
        w.backup = s.next;
        switch (s.action) {
            case BackupAction::Claim:
                w.requests |= BackupClaims;
                if (rules_.claim_without_witness) {
                    w.from = w.whole;
                    w.backup = BackupState::Starting;
                }
                break;
            case BackupAction::Load: w.from = w.whole; break;
            case BackupAction::Settle:
                w.requests |= BackupSettles;
                if (rules_.run_while_asking || rules_.run_on_a_lease) backup(w, BackupEvent::Settled);
                if (rules_.run_on_a_lease) w.requests &= static_cast<std::uint8_t>(~BackupSettles);
                break;
            case BackupAction::Announce:
                if (w.up) w.word = LastWord::Active;
                break;
            case BackupAction::ReleaseKey:
                w.requests |= BackupReleases;
                if (rules_.promise_is_forgotten && was == BackupState::Discarded)
                    w.backup = BackupState::Loading;
                break;
            case BackupAction::Discard:
                if (was != BackupState::Receiving && was != BackupState::Standby) w.requests |= BackupReleases;
                w.discarded = why(e);
                if (w.up) w.word = LastWord::Gone;
                w.up = 0;  // closed, after the last word
                break;
            default: break;
        }
    }

    static Why why(BackupEvent e) {
        switch (e) {
            case BackupEvent::PrimaryLost: return Why::NeverWhole;
            case BackupEvent::Dismissed: return Why::Dismissed;
            case BackupEvent::HeldForGood: return Why::Refused;
            default: return Why::Broken;
        }
    }
    static void arm(World& w) {  // with the time of the last renewal that succeeded, however long ago that was
        w.fence = w.key == Key::PrimaryLease ? Fence::Armed : Fence::Fired;
        if (w.fence == Fence::Fired) w.fence_news = 1;
    }
    static void send_half(World& w) {
        ++w.sent;
        w.wire = w.sent;
    }
    static bool dismiss(World& w) {
        if (w.up && w.dismiss == Message::None) w.dismiss = Message::UnderWay;
        return w.up;
    }
    static bool whole(std::uint8_t position) { return position % 2 == 0; }

    // The next thing in the stream.
    template <class Visit>
    void backup_reads(const World& w, Visit&& visit) const {
        World n = w;
        if (w.read < w.wire) {
            ++n.read;
            const bool takes = w.backup <= BackupState::Invited || rules_.checkpoints_after_granted;
            if (!takes) return visit(n, "the backup drops a record");
            const auto epoch = static_cast<std::uint8_t>((n.read + 1) / 2);
            if (whole(n.read) || rules_.acked_before_whole) {
                if (w.up) n.acks = epoch;
            }
            if (!whole(n.read)) return visit(n, "the backup has a checkpoint but for its End");
            n.whole = epoch;
            backup(n, BackupEvent::Committed);
            return visit(n, "the backup has a whole checkpoint");
        }
        if (w.yours == Message::UnderWay) {
            n.yours = Message::Through;
            backup(n, BackupEvent::Yours);
            return visit(n, "Yours arrives");
        }
        if (w.dismiss == Message::UnderWay) {
            n.dismiss = Message::Through;
            backup(n, BackupEvent::Dismissed);
            return visit(n, "Dismiss arrives");
        }
    }

    const Rules rules_;
    const std::uint8_t last_;
    const unsigned unacknowledged_;
    Coverage* const coverage_;
};

}  // namespace proa::model
