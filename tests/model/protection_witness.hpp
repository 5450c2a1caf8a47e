// The witness as remus/witness.hpp has it, and what of a world can't matter any more.
#pragma once
#include "tests/model/protection_world.hpp"

namespace proa::model {

// What a request does, and the answer to it. Each side asks one thing at a time: an answer to an older call that was
// given up is not heard any more.
inline void serve(World& w, Request q, const Rules& rules) {
    const bool free = w.key == Key::None;
    switch (q) {
        case PrimaryClaims:
            if (free && w.term == Term::Fresh) {
                w.key = Key::PrimaryLease;
                w.term = Term::Open;
            }
            if (w.key == Key::PrimaryLease) w.primary_answers = SaysGranted;
            if (w.key == Key::Stranger) w.primary_answers = SaysRefused;
            return;  // else: late, and conditional on a term that has gone by
        case PrimarySettles:
            if (w.key == Key::PrimaryLease || (free && w.term == Term::Open) || rules.settle_from_expired) {
                w.key = Key::PrimarySettled;
                w.term = Term::ClosedByPrimary;
            }
            if (w.term == Term::ClosedByPrimary) w.primary_answers = SaysSettled;
            if (w.term == Term::ClosedByBackup || (w.key == Key::BackupLease && rules.lease_is_the_end))
                w.primary_answers = SaysNotOurs;
            return;  // else contested: the primary asks again
        case PrimaryReleases:
            if (w.key == Key::PrimaryLease || w.key == Key::PrimarySettled) w.key = Key::None;
            return;
        case BackupClaims:
            if (free && (w.term == Term::Open || rules.claims_without_term)) w.key = Key::BackupLease;
            if (w.key == Key::BackupLease || w.term == Term::ClosedByBackup) {
                w.backup_answers = ToldGranted;
            } else {
                w.backup_answers = w.key == Key::PrimaryLease ? ToldByLease : ToldForGood;
            }
            return;
        case BackupSettles:
            if (w.key == Key::BackupLease || (free && w.term == Term::Open)) {
                w.key = Key::BackupSettled;
                w.term = Term::ClosedByBackup;
            }
            if (w.term == Term::ClosedByBackup) w.backup_answers = ToldSettled;
            if (w.term == Term::ClosedByPrimary) w.backup_answers = ToldForGood;
            return;
        case BackupReleases:
            if (w.key == Key::BackupLease || w.key == Key::BackupSettled) w.key = Key::None;
            return;
    }
}

// Forgets what can't matter any more, so that worlds that differ in nothing else are one.
inline void tidy(World& w, const Rules& rules) {
    using P = PrimaryState;
    using B = BackupState;
    const auto forget = [&](unsigned requests) { w.requests &= static_cast<std::uint8_t>(~requests); };
    const bool primary_over = !w.primary_alive || w.primary == P::Superseded || w.primary == P::Left;
    const bool backup_over = !w.backup_alive || w.backup == B::Discarded;
    if (primary_over) {
        w.fence = Fence::Off;
        w.fence_news = w.frozen = w.vcpus = 0;
        w.primary_answers = 0;
    }
    if (primary_over || w.primary == P::Alone || w.primary == P::Unprotected) {
        w.primary_knows = 1;
        w.sent = w.acked = w.acks = 0;
        w.word = LastWord::None;
        w.primary_answers &= SaysGranted;
    }
    if (w.primary_knows) {
        w.acks = w.acked;
        w.word = LastWord::None;
    }
    if (w.primary == P::Yielded) {  // stopped, and not by the fence
        w.fence = Fence::Off;
        w.fence_news = w.frozen = 0;
    }
    if (backup_over || w.backup == B::Active) {
        if (!rules.checkpoints_after_granted) w.read = w.wire = w.whole = 0;
        w.backup_knows = 1;
        w.yours = w.dismiss = Message::Through;
        w.backup_answers &= w.backup == B::Discarded && w.backup_alive ? ToldGranted : 0;
    }
    if (!w.up) {  // nothing is sent any more
        if (w.yours == Message::None) w.yours = Message::Through;
        if (w.dismiss == Message::None) w.dismiss = Message::Through;
    }
    if (backup_over && !w.backup_ran) {
        w.from = 0;
        if (!rules.promise_is_forgotten) w.released = 0;
    }
    // Requests that can't have an effect any more, and whose answers nobody waits for.
    if (w.primary != P::Claiming || !w.primary_alive)
        if (w.term != Term::Fresh) forget(PrimaryClaims);
    if (primary_over && w.term == Term::ClosedByBackup) forget(PrimarySettles);
    if (w.term == Term::ClosedByBackup) forget(PrimaryReleases);
    if (w.term == Term::ClosedByPrimary && !rules.claims_without_term) {
        forget(BackupReleases);
        if (backup_over) forget(BackupClaims | BackupSettles);
    }
    if (w.term == Term::ClosedByBackup && w.backup != B::Deciding) forget(BackupClaims | BackupSettles);
}

}  // namespace proa::model
