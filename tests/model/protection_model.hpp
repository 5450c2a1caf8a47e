// What may happen next to a protected guest: its two hosts, the witness, time, and everything that can go wrong.
//
// Time is one rule: the lease of a primary may end at the witness only when its fence has fired, or can't be late any more
// (the host is dead, or frozen with the fence overdue), or isn't needed (the guest is stopped and yielded, or nobody could
// claim). When a fence fires, how long anything takes and which of two things comes first is anyone's guess.
#pragma once
#include "tests/model/protection_hosts.hpp"
#include "tests/model/protection_witness.hpp"

namespace proa::model {

enum class Faults : std::uint8_t {
    Dark,  // what happens by itself, while nobody reaches the witness
    None,  // what happens by itself
    Few,   // and what an operator wants, and renewals that fail
    All
};

class Protection {
  public:
    Protection(const Rules& rules, unsigned epochs, unsigned unacknowledged = 1, Coverage* coverage = nullptr)
        : rules_(rules), hosts_(rules, epochs, unacknowledged, coverage) {}

    // Everything that may happen next.
    template <class Visit>
    void next(const World& w, Visit&& visit_raw, Faults level = Faults::All) const {
        const bool faults = level == Faults::All;
        const auto visit = [&](World n, const char* what) {
            tidy(n, rules_);
            if (n != w) visit_raw(n, what);
        };
        if (w.primary_alive && !w.frozen) {
            hosts_.primary_works(w, visit);
            hosts_.primary_hears(w, visit, faults);
        }
        if (w.backup_alive) {
            hosts_.backup_works(w, visit, faults);
            hosts_.backup_hears(w, visit, faults);
        }
        if (level != Faults::Dark) witness_works(w, visit, faults);
        time_passes(w, visit);
        if (level >= Faults::Few) {
            hosts_.operator_acts(w, visit);
            renewals_fail(w, visit);
        }
        if (faults) {
            things_break(w, visit);
            messages_are_lost(w, visit);
        }
    }

  private:
    template <class Visit>
    void witness_works(const World& w, Visit&& visit, bool faults) const {
        static const struct {
            Request request;
            const char *once, *unheard, *twice;
        } kinds[] = {
            {PrimaryClaims, "the witness gets the primary's claim",
             "the witness gets the primary's claim, the answer is lost",
             "the witness gets the primary's claim, and will again"},
            {PrimarySettles, "the witness is asked to settle by the primary",
             "the witness is asked to settle by the primary, the answer is lost",
             "the witness is asked to settle by the primary, and will be again"},
            {PrimaryReleases, "the witness gets the primary's release",
             "the witness gets the primary's release",
             "the witness gets the primary's release, and will again"},
            {BackupClaims, "the witness gets the backup's claim",
             "the witness gets the backup's claim, the answer is lost",
             "the witness gets the backup's claim, and will again"},
            {BackupSettles, "the witness is asked to settle by the backup",
             "the witness is asked to settle by the backup, the answer is lost",
             "the witness is asked to settle by the backup, and will be again"},
            {BackupReleases, "the witness gets the backup's release", "the witness gets the backup's release",
             "the witness gets the backup's release, and will again"},
        };
        for (const auto& k : kinds) {
            if (!(w.requests & k.request)) continue;
            World n = w;
            serve(n, k.request, rules_);
            const World again = n;
            n.requests &= static_cast<std::uint8_t>(~k.request);
            visit(n, k.once);
            if (!faults) continue;
            visit(again, k.twice);
            n.primary_answers = w.primary_answers;
            n.backup_answers = w.backup_answers;
            visit(n, k.unheard);
            n = w;
            n.requests &= static_cast<std::uint8_t>(~k.request);
            visit(n, "a request to the witness is lost");
        }
    }

    // --- time, and faults ---

    template <class Visit>
    void time_passes(const World& w, Visit&& visit) const {
        World n = w;
        n.key = Key::None;
        const bool renewed =
            w.primary_alive && !w.frozen &&
            (w.primary == PrimaryState::Yielded ? rules_.yield_keeps_key : w.fence == Fence::Armed);
        if (w.key == Key::PrimaryLease && (!renewed || rules_.fence_after_expiry))
            visit(n, "the primary's lease expires");
        if (w.key == Key::BackupLease) visit(n, "the backup's lease expires");
        if (!w.frozen) return;
        n = w;
        n.frozen = 0;
        n.fence = Fence::Fired;
        n.fence_news = 1;
        visit(n, "the primary's host goes on, and its fence fires");
    }

    template <class Visit>
    void renewals_fail(const World& w, Visit&& visit) const {
        if (!w.primary_alive || w.frozen || w.fence != Fence::Armed) return;
        World n = w;
        n.fence = Fence::Fired;
        n.fence_news = 1;
        visit(n, "renewals fail, the fence fires");
    }

    template <class Visit>
    void things_break(const World& w, Visit&& visit) const {
        World n = w;
        if (w.primary_alive && !w.frozen && w.fence == Fence::Armed) {
            n.frozen = 1;
            visit(n, "the primary's host freezes for longer than its lease");
        }
        n = w;
        n.primary_alive = n.vcpus = n.up = 0;
        visit(n, "the primary dies");
        n = w;
        n.backup_alive = n.backup_runs = n.up = 0;
        visit(n, "the backup dies");
        n = w;
        n.up = 0;
        visit(n, "the connection breaks");
        if (w.key != Key::None || w.term != Term::Fresh || w.requests != 0) return;
        n = w;
        n.key = Key::Stranger;
        visit(n, "somebody else has the key");
    }

    // Of a broken connection the end is lost.
    template <class Visit>
    void messages_are_lost(const World& w, Visit&& visit) const {
        World n = w;
        if (!w.up) {
            if (w.dismiss == Message::UnderWay) {
                n.dismiss = Message::Through;
            } else if (w.yours == Message::UnderWay) {
                n.yours = Message::Through;
            } else if (w.wire > w.read) {
                --n.wire;
            }
            visit(n, "the last message to the backup is lost");
            n = w;
            if (w.word != LastWord::None) {
                n.word = LastWord::None;
            } else if (w.acks > w.acked) {
                --n.acks;
            }
            visit(n, "the last message to the primary is lost");
        }
    }

    const Rules rules_;
    const Hosts hosts_;
};

}  // namespace proa::model
