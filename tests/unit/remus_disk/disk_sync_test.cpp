// A sync, both sides: a stale replica becomes the disk of a guest that goes on writing.
#include "remus/disk_sync.hpp"

#include "remus/disk_log.hpp"
#include "tests/unit/remus_disk/scratch.hpp"

namespace proa::remus {
namespace {

class MemoryDisk final : public vmm::Disk {
  public:
    explicit MemoryDisk(Image b) : bytes(std::move(b)) {}
    std::string name() const override { return "virtio0:block"; }
    const std::string& path() const override { return path_; }
    std::uint64_t size() const override { return bytes.size(); }
    bool read_only() const override { return false; }
    vmm::Result<void> read(std::uint64_t offset, std::span<std::uint8_t> to) const override {
        if (offset > bytes.size() || to.size() > bytes.size() - offset) return vmm::fail("outside");
        if (broken) return vmm::fail("a bad sector");
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
        if (after_read) after_read();
        return {};
    }
    void observe(vmm::DiskObserver*) override {}
    Image bytes;
    bool broken = false;
    std::function<void()> after_read;

  private:
    std::string path_ = "memory";
};

DiskHashesRecord piece(const DiskReplica& r, std::uint64_t first, std::uint64_t count) {
    auto h = r.hashes(first, count);
    EXPECT_TRUE(h);
    return {0, first, kHashBlock, first + count == r.blocks(), std::move(*h)};
}

Image random_image(std::mt19937& random, std::size_t bytes) {
    Image b(bytes);
    for (std::size_t at = 0; at < bytes; at += kHashBlock) {
        if (random() % 3 == 0) continue;  // a hole
        std::fill_n(b.begin() + static_cast<std::ptrdiff_t>(at), std::min<std::size_t>(kHashBlock, bytes - at),
                    static_cast<std::uint8_t>(random()));
    }
    return b;
}

TEST(DiskSync, AnyReplicaBecomesTheDiskAndOnlyWhatDiffersTravels) {
    std::mt19937 random(1);
    for (int n = 0; n < 10; ++n) {
        Scratch scratch;
        const std::size_t bytes = (1 + random() % 2'000) * 512;
        MemoryDisk disk(random_image(random, bytes));
        Image stale = disk.bytes;
        std::uint64_t different = 0;
        for (std::size_t at = 0; at < bytes; at += kHashBlock)
            if (random() % 4 == 0) {
                stale[at] ^= 1;
                ++different;
            }
        scratch.write("disk", stale);
        auto replica = DiskReplica::open(scratch.file("disk"), bytes, scratch.path, "guest/virtio0:block");
        ASSERT_TRUE(replica) << replica.error().what;
        ASSERT_TRUE((*replica)->begin_sync());
        DiskSync sync(disk, 0);
        while (!sync.complete()) {
            const std::uint64_t left = (*replica)->blocks() - sync.blocks();
            ASSERT_TRUE(sync.compare(piece(**replica, sync.blocks(), 1 + random() % left),
                                     [&](DiskWritesRecord w) { return (*replica)->sync_write(w); }));
        }
        EXPECT_EQ(sync.differing(), different);
        ASSERT_TRUE((*replica)->apply(1, 1, {}));
        EXPECT_EQ((*replica)->state(), ReplicaState::Consistent);
        EXPECT_EQ(scratch.contents("disk"), disk.bytes);
    }
}

// The guest writes after each read of the disk, seen by the log: to what was read, and to what will be.
TEST(DiskSync, AGuestThatWritesMeanwhileEndsWithTheSameDiskAtCheckpointOne) {
    std::mt19937 random(2);
    for (int n = 0; n < 4; ++n) {
        Scratch scratch;
        MemoryDisk disk(random_image(random, 40 * kHashBlock + 512));
        auto replica = DiskReplica::open(scratch.file("disk"), disk.size(), scratch.path, "g");
        ASSERT_TRUE(replica) << replica.error().what;
        ASSERT_TRUE((*replica)->begin_sync());
        DiskLog log(0, 1u << 30);
        disk.after_read = [&] {
            for (const auto& r : scribble(disk.bytes, random, 1 + random() % 8)) {
                std::size_t from = 0;
                for (const auto& w : r.writes) {
                    if (w.zero) {
                        log.zeroed(w.offset, w.length);
                        continue;
                    }
                    log.wrote(w.offset, std::span(r.data).subspan(from, w.length));
                    from += w.length;
                }
            }
        };
        DiskSync sync(disk, 0);
        while (!sync.complete()) {
            const std::uint64_t left = (*replica)->blocks() - sync.blocks();
            ASSERT_TRUE(sync.compare(piece(**replica, sync.blocks(), 1 + random() % left),
                                     [&](DiskWritesRecord w) { return (*replica)->sync_write(w); }));
            if (random() % 2 == 0) continue;
            for (const auto& w : log.take()) ASSERT_TRUE((*replica)->sync_write(w));
        }
        ASSERT_TRUE((*replica)->apply(1, 1, log.take()));
        EXPECT_EQ(scratch.contents("disk"), disk.bytes) << n;
    }
}

TEST(DiskSync, HashesThatAreNotOfThisDiskAreRefused) {
    MemoryDisk disk(Image(3 * kHashBlock, 5));
    const auto good = [&] {
        return DiskHashesRecord{0, 0, kHashBlock, true, std::vector<std::uint8_t>(3 * 16)};
    };
    const auto refused = [&](auto&& change) {
        DiskSync sync(disk, 0);
        auto p = good();
        change(p);
        return !sync.compare(p, [](DiskWritesRecord) { return vmm::Result<void>(); }) && !sync.complete();
    };
    EXPECT_FALSE(refused([](auto&) {}));
    EXPECT_TRUE(refused([](auto& p) { p.disk = 1; }));
    EXPECT_TRUE(refused([](auto& p) { p.block_bytes = 4096; }));
    EXPECT_TRUE(refused([](auto& p) { p.first_block = 1; }));
    EXPECT_TRUE(refused([](auto& p) { p.first_block = ~0ull; }));
    EXPECT_TRUE(refused([](auto& p) { p.last = false; }));
    EXPECT_TRUE(refused([](auto& p) { p.hashes.resize(4 * 16); }));
    EXPECT_TRUE(refused([](auto& p) { p.hashes.resize(2 * 16); })) << "last, but not at the end";
    EXPECT_TRUE(refused([](auto& p) { p.hashes.resize(17); }));
    EXPECT_TRUE(refused([](auto& p) { p.hashes.clear(); }));
    DiskSync done(disk, 0);
    ASSERT_TRUE(done.compare(good(), [](DiskWritesRecord) { return vmm::Result<void>(); }));
    EXPECT_FALSE(done.compare(good(), [](DiskWritesRecord) { return vmm::Result<void>(); }));
}

TEST(DiskSync, AnUnreadableDiskOrALostBackupEndsIt) {
    MemoryDisk disk(Image(3 * kHashBlock, 5));
    DiskSync sync(disk, 0);
    const DiskHashesRecord all{0, 0, kHashBlock, true, std::vector<std::uint8_t>(3 * 16)};
    const auto r = sync.compare(all, [](DiskWritesRecord) { return vmm::fail("the backup is gone"); });
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().what, "the backup is gone");
    disk.broken = true;
    DiskSync again(disk, 0);
    EXPECT_FALSE(again.compare(all, [](DiskWritesRecord) { return vmm::Result<void>(); }));
}

}  // namespace
}  // namespace proa::remus
