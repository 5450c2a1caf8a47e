// The whole way of a page: a guest writes, the encoder chooses, the backup buffers and commits. After every epoch the backup's
// memory is the guest's, and before every commit it is that of the last epoch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>

#include "remus/checkpoint_buffer.hpp"
#include "tests/support/checkpoint.hpp"

namespace proa::remus {
namespace {

using test::frame;
constexpr std::uint64_t kPages = 300;  // more than a record holds

class Pair {
  public:
    explicit Pair(std::uint64_t cache_bytes, std::uint32_t seed)
        : encoder_(kPages, cache_bytes), random_(seed), guest_(kPages * kPageBytes) {
        attach();
    }
    void guest_runs() {
        for (unsigned n = random_() % 60; n > 0; --n) {
            const std::uint64_t page = random_() % (random_() % 2 == 0 ? 12 : kPages);  // some pages are hot
            write(guest_.data() + page * kPageBytes);
            dirty_.insert(page);
        }
        for (unsigned n = random_() % 4; n > 0; --n)
            dirty_.insert(random_() % kPages);  // told so, yet unchanged
    }
    void checkpoint() {
        const Bytes before = backup_;
        const std::uint64_t sent = encoder_.counts().sent();
        take(frame(Record::Begin, encode(BeginRecord{1, ++epoch_})));
        for (const std::uint64_t page : dirty_) {
            encoder_.add(page, std::span(guest_).subspan(page * kPageBytes, kPageBytes));
            if (encoder_.full()) send_pages();
        }
        if (!encoder_.empty()) send_pages();
        take(frame(migrate::Record::Machine, migrate::encode_machine(test::small_machine())));
        take(frame(migrate::Record::Device, migrate::encode_device({"uart", {}})));
        const EndRecord end{1, epoch_, encoder_.counts().sent() - sent, 0, 1, false};
        if (lose_backup_) return;
        ASSERT_TRUE(take(frame(Record::End, encode(end))));
        ASSERT_EQ(backup_, before);
        EXPECT_EQ(buffer_->commit().pages, end.pages);
        encoder_.commit();
        dirty_.clear();
        ASSERT_EQ(backup_, guest_);
    }
    // In the middle of a checkpoint; another backup, whose memory holds anything, begins with everything.
    void backup_dies() {
        lose_backup_ = true;
        checkpoint();
        lose_backup_ = false;
        encoder_.reset();
        attach();
    }
    const PageCounts& counts() const { return encoder_.counts(); }
    std::uint32_t random() { return random_(); }

  private:
    void attach() {
        backup_.assign(guest_.size(), static_cast<std::uint8_t>(random_()));
        buffer_.emplace(backup_, std::vector<std::uint64_t>{}, std::vector<std::string>{"uart"}, 1, 64 << 20);
        epoch_ = 0;
        for (std::uint64_t p = 0; p < kPages; ++p) dirty_.insert(p);
    }
    void write(std::uint8_t* page) {
        switch (random_() % 5) {
            case 0: std::memset(page, 0, kPageBytes); break;
            case 1:
                for (std::size_t i = 0; i < kPageBytes; i += 4) {
                    const std::uint32_t v = random_();
                    std::memcpy(page + i, &v, 4);
                }
                break;
            case 2: {  // a run
                const std::size_t at = random_() % kPageBytes, n = random_() % (kPageBytes - at);
                std::memset(page + at, static_cast<int>(random_() % 256), n);
                break;
            }
            default:
                for (unsigned n = 1 + random_() % 40; n > 0; --n)
                    page[random_() % kPageBytes] = static_cast<std::uint8_t>(random_());
        }
    }
    void send_pages() {
        const auto r = encoder_.take();
        take(frame(Record::Pages, {r.begin(), r.end()}));
    }
    bool take(const transport::Frame& f) {
        const auto r = buffer_->take(f);
        EXPECT_TRUE(r) << (r ? "" : r.error().what);
        return r && *r;
    }

    PageEncoder encoder_;
    std::mt19937 random_;
    Bytes guest_, backup_;
    std::optional<CheckpointBuffer> buffer_;
    std::set<std::uint64_t> dirty_;
    std::uint64_t epoch_ = 0;
    bool lose_backup_ = false;
};

void run(std::uint64_t cache_bytes, std::uint32_t seed, PageCounts& total) {
    SCOPED_TRACE("cache " + std::to_string(cache_bytes) + ", seed " + std::to_string(seed));
    Pair pair(cache_bytes, seed);
    for (int epoch = 0; epoch < 100 && !testing::Test::HasFatalFailure(); ++epoch) {
        pair.guest_runs();
        if (pair.random() % 20 == 0)
            pair.backup_dies();
        else
            pair.checkpoint();
    }
    total.unchanged += pair.counts().unchanged;
    total.zero += pair.counts().zero;
    total.delta += pair.counts().delta;
    total.plain += pair.counts().plain;
}

TEST(Replication, TheBackupsMemoryIsTheGuestsAfterEveryEpoch) {
    PageCounts total;
    for (const std::uint64_t cache :
         {std::uint64_t{0}, 16 * kPageBytes, kPages * kPageBytes, std::uint64_t{1} << 30})
        for (std::uint32_t seed = 1; seed <= 3; ++seed) run(cache, seed, total);
    for (const std::uint64_t n : {total.unchanged, total.zero, total.delta, total.plain}) EXPECT_GT(n, 1'000u);
}

}  // namespace
}  // namespace proa::remus
