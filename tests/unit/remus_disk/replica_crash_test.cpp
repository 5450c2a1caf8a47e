// A replica's promise under every crash: one life of a replica is recorded, and then the host stops after each operation of it,
// with any part of what wasn't synced lost. What is found then is the disk of one epoch, whole, and the right one. And the same
// for a crash during the repair.
#include "tests/unit/remus_disk/crash_files.hpp"
#include "tests/unit/remus_disk/scratch.hpp"

namespace proa::remus {
namespace {

constexpr std::uint64_t kBytes = 24 * 512;
constexpr const char* kDisk = "replicas/disk";

constexpr const char* kUnopened = "it doesn't open";
using Label = std::pair<std::uint64_t, std::uint64_t>;  // term and epoch

// What is promised from some operation on.
struct Moment {
    std::size_t from = 0;       // operations that had been made when this began to hold
    bool may_be_stale = false;  // no epoch is promised
    std::vector<Label> may_be;  // what the replica may hold: what was applied last, and what is being applied
};

class Life {
  public:
    // Two protections, with epochs of every kind; more than the journal holds.
    void live() {
        mark(true, {});
        auto r = open(files);
        sync(*r, 1);
        for (std::uint64_t e = 2; e < 16; ++e) apply(*r, 1, e, e % 4 == 0 ? 0 : 1 + random_() % 6);
        r.reset();
        r = open(files);
        for (std::uint64_t e = 16; e < 20; ++e) apply(*r, 1, e, 2);
        ASSERT_TRUE(r->flush());
        apply(*r, 2, 1, 0);  // a new term, without a sync
        apply(*r, 2, 2, 3);
        sync(*r, 3);
        for (std::uint64_t e = 2; e < 8; ++e) apply(*r, 3, e, 2);
        mark(true, {{3, 7}});
        ASSERT_TRUE(r->hand_over());
        mark(true, {});
    }

    static vmm::Result<std::unique_ptr<DiskReplica>> try_open(CrashFiles& f) {
        return DiskReplica::open(kDisk, kBytes, "state", "g/d", {f, 16 * 512});
    }
    static std::unique_ptr<DiskReplica> open(CrashFiles& f) {
        auto r = try_open(f);
        EXPECT_TRUE(r) << r.error().what;
        return r ? std::move(*r) : nullptr;
    }

    // Empty if what a crash after `done` operations has left is as promised. `found`: what is claimed.
    struct Found {
        bool consistent = false;
        std::uint64_t term = 0, epoch = 0;
        bool operator==(const Found&) const = default;
    };
    std::string judge(CrashFiles& left, std::size_t done, Found& found) const {
        const Moment& m = moment(done);
        const auto opened = try_open(left);
        if (!opened) return kUnopened;
        const auto& r = *opened;
        found = {r->state() == ReplicaState::Consistent, r->term(), r->epoch()};
        if (!found.consistent) return m.may_be_stale ? "" : "it is stale";
        const auto claimed = images_.find({found.term, found.epoch});
        if (claimed == images_.end()) return "it claims an epoch that never was";
        if (*left.contents(kDisk) != claimed->second) return "it isn't what it says it is";
        // An epoch that wrote nothing may go by the name of the one before it.
        for (const Label& l : m.may_be)
            if (l.first == found.term && l.second >= found.epoch && images_.at(l) == claimed->second) return "";
        return "it holds an epoch that is too old, or too new";
    }

    CrashFiles files;

  private:
    void mark(bool may_be_stale, std::vector<Label> may_be) {
        moments_.push_back({files.operations(), may_be_stale, std::move(may_be)});
    }
    const Moment& moment(std::size_t done) const {
        const Moment* last = &moments_.front();
        for (const auto& m : moments_)
            if (m.from <= done) last = &m;
        return *last;
    }
    void sync(DiskReplica& r, std::uint64_t term) {
        mark(true, moments_.back().may_be);
        ASSERT_TRUE(r.begin_sync());
        mark(true, {});
        for (const auto& w : scribble(image_, random_, 8)) ASSERT_TRUE(r.sync_write(w));
        const auto writes = scribble(image_, random_, 3);
        images_[{term, 1}] = image_;
        mark(true, {{term, 1}});
        ASSERT_TRUE(r.apply(term, 1, writes));
        mark(false, {{term, 1}});
    }
    void apply(DiskReplica& r, std::uint64_t term, std::uint64_t epoch, unsigned writes) {
        const auto records = scribble(image_, random_, writes);
        images_[{term, epoch}] = image_;
        mark(false, {moments_.back().may_be.back(), {term, epoch}});
        ASSERT_TRUE(r.apply(term, epoch, records));
        mark(false, {{term, epoch}});
    }

    std::mt19937 random_{12};
    Image image_ = Image(kBytes);
    std::map<Label, Image> images_;
    std::vector<Moment> moments_;
};

constexpr double kKept[] = {0, 1, 0.5, 0.5, 0.1, 0.9};

TEST(ReplicaCrash, LeavesTheDiskOfOneWholeEpochAndTheRightOne) {
    Life life;
    life.live();
    ASSERT_GT(life.files.operations(), 150u);
    std::mt19937 random(99);
    unsigned consistent = 0;
    for (std::size_t done = 0; done <= life.files.operations(); ++done)
        for (const double keep : kKept) {
            const auto left = life.files.after(done, keep, random);
            Life::Found found;
            ASSERT_EQ(life.judge(*left, done, found), "") << "after operation " << done << ", keeping " << keep;
            consistent += found.consistent;
        }
    EXPECT_GT(consistent, 500u);
}

TEST(ReplicaCrash, DuringTheRepairChangesNothing) {
    Life life;
    life.live();
    std::mt19937 random(7);
    for (std::size_t done = 0; done <= life.files.operations(); ++done) {
        const auto left = life.files.after(done, 0.5, random);
        Life::Found first;
        ASSERT_EQ(life.judge(*left, done, first), "") << done;
        for (std::size_t again = 0; again <= left->operations(); ++again) {
            const auto twice = left->after(again, again % 2 == 0 ? 0.5 : 0, random);
            Life::Found second;
            ASSERT_EQ(life.judge(*twice, done, second), "") << done << ", then " << again;
            ASSERT_EQ(second, first) << done << ", then " << again;
        }
    }
}

TEST(ReplicaCrash, AfterItTheReplicaGoesOn) {
    Life life;
    life.live();
    std::mt19937 random(3);
    for (std::size_t done = 0; done <= life.files.operations(); done += 3) {
        const auto left = life.files.after(done, 0.5, random);
        auto r = Life::open(*left);
        if (r->state() == ReplicaState::Stale) {
            ASSERT_TRUE(r->begin_sync());
        }
        Image image = *left->contents(kDisk);
        ASSERT_TRUE(r->apply(9, 1, scribble(image, random, 4)));
        ASSERT_TRUE(r->apply(9, 2, scribble(image, random, 4)));
        r.reset();
        r = Life::open(*left->after(left->operations(), 0, random));
        EXPECT_EQ(r->epoch(), 2u);
        EXPECT_EQ(*left->contents(kDisk), image);
    }
}

// Each sync is needed: without it the judge finds a crash that breaks the promise. (And so the judge can find one.)
TEST(ReplicaCrash, WithoutAnyOneOfItsSyncsThePromiseBreaks) {
    Life life;
    life.live();
    for (const char* deaf : {".journal", "disk", ".new", "."}) {
        std::mt19937 random(5);
        unsigned broken = 0;
        for (std::size_t done = 0; done <= life.files.operations(); ++done)
            for (const double keep : {0.0, 0.5}) {
                const auto left = life.files.after(done, keep, random, deaf);
                Life::Found found;
                const std::string verdict = life.judge(*left, done, found);
                broken += !verdict.empty() && verdict != kUnopened;  // that harms nobody
            }
        EXPECT_GT(broken, 0u) << deaf;
    }
}

}  // namespace
}  // namespace proa::remus
