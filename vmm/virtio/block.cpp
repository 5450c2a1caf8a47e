#include "vmm/virtio/block.hpp"

#include <algorithm>
#include <cstring>

#include "vmm/virtio/block_format.hpp"

namespace proa::vmm {

using namespace block;

namespace {

constexpr std::size_t kCopy = 256 * 1024;  // how much is copied at a time, where copying must be

std::size_t total(const std::vector<Segment>& v) {
    std::size_t n = 0;
    for (const auto& s : v) n += s.bytes.size();
    return n;
}

// Takes `n` bytes off the front: the header need not be one segment (2.7.4.1).
void take(std::vector<Segment>& from, std::span<std::uint8_t> to) {
    for (auto& s : from) {
        const std::size_t n = std::min(to.size(), s.bytes.size());
        std::memcpy(to.data(), s.bytes.data(), n);
        to = to.subspan(n);
        s.bytes = s.bytes.subspan(n);
        s.gpa += n;
        if (to.empty()) return;
    }
}

}  // namespace

Result<std::unique_ptr<BlockBackend>> BlockBackend::open(const std::string& path, bool read_only, Post post) {
    auto disk = RawDisk::open(path, read_only);
    if (!disk) return tl::unexpected(disk.error());
    return std::unique_ptr<BlockBackend>(new BlockBackend(std::move(*disk), std::move(post)));
}

BlockBackend::BlockBackend(std::unique_ptr<RawDisk> disk, Post post)
    : disk_(std::move(disk)), post_(std::move(post)), copy_(kCopy), worker_([this] { work(); }) {}

BlockBackend::~BlockBackend() {
    *alive_ = false;
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    worker_.join();
}

std::uint64_t BlockBackend::features() const {
    // The same on every host, whatever its storage can do: what a guest negotiated must be there after a move.
    return 1ull << kSegMax | 1ull << kBlkSize | 1ull << kFlush |
           (read_only() ? 1ull << kRo : 1ull << kDiscard | 1ull << kWriteZeroes);
}

std::uint8_t BlockBackend::config(unsigned offset) const {
    Config c{};
    c.capacity = size() / kSectorBytes;
    c.seg_max = kSegments;
    c.blk_size = kSectorBytes;
    if (!read_only()) {
        c.max_discard_sectors = kMostDiscard;
        c.max_discard_seg = c.max_write_zeroes_seg = kRanges;
        c.discard_sector_alignment = 4096 / kSectorBytes;
        c.max_write_zeroes_sectors = kMostZeroes;
        c.write_zeroes_may_unmap = 1;
    }
    return offset < sizeof(c) ? reinterpret_cast<const std::uint8_t*>(&c)[offset] : std::uint8_t{0};
}

void BlockBackend::notified(unsigned) {
    if (parked_) return;
    SplitQueue& q = host().queue(0);
    do {
        Request r;
        SplitQueue::Pop p;
        while ((p = q.pop(host().memory(), r.chain)) == SplitQueue::Pop::Got) {
            if (total(r.chain.readable) < kHeader || total(r.chain.writable) < 1)
                return host().broken("short block request");
            std::uint8_t header[kHeader];
            take(r.chain.readable, header);
            std::memcpy(&r.type, header, sizeof(r.type));
            std::memcpy(&r.sector, header + 8, sizeof(r.sector));
            std::lock_guard lock(mutex_);
            // A driver that takes descriptors back before they are used could fill our memory with requests.
            if (todo_.size() + done_.size() >= SplitQueue::kMaxSize)
                return host().broken("more requests in flight than the queue has room for");
            todo_.push_back(std::move(r));
            r = {};
            wake_.notify_one();  // here, for a broken chain may end this function
        }
        if (p == SplitQueue::Pop::Broken) return host().broken("bad descriptor chain");
    } while (q.enable_notify(host().memory(), host().feature(29)));
}

void BlockBackend::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(
            lock, [&] { return stop_ || (!todo_.empty() && (observer_ == nullptr || observer_->has_room())); });
        if (stop_) return;
        Request r = std::move(todo_.front());
        todo_.pop_front();
        worker_state_ = r.type == kFlushOp ? Worker::Flushing : Worker::Running;
        DiskObserver* const observer = observer_;
        lock.unlock();
        run(r, observer);
        lock.lock();
        if (worker_state_ != Worker::Abandoned) {
            if (worker_state_ == Worker::Flushing) abandoned_before_ = false;
            done_.push_back(std::move(r));
            if (done_.size() == 1)
                post_([this, alive = alive_] {
                    if (*alive) finish();
                });
        }
        worker_state_ = Worker::Idle;
        idle_.notify_all();
    }
}

// Completes what the worker has done: status byte, used ring, interrupt. On the strand.
void BlockBackend::finish() {
    std::deque<Request> done;
    {
        std::lock_guard lock(mutex_);
        done.swap(done_);
    }
    if (done.empty()) return;
    SplitQueue& q = host().queue(0);
    for (auto& r : done) {
        Segment& last = r.chain.writable.back();
        last.bytes.back() = r.status;
        for (const auto& s : r.chain.writable) host().memory().mark_dirty(s.gpa, s.bytes.size());
        if (q.ready) q.push(host().memory(), r.chain.head, r.written + 1);
    }
    host().used(0);
}

// A checkpoint pauses the guest many times a second, and a migration once: neither should wait for a long queue.
//
// What hasn't begun goes back: requests are begun and used in the queue's order, so those in todo_ are the last that were
// popped, and since none after the first of them has been used, a driver that keeps the rules can't have put another in its
// place in the ring (its descriptors are still out). resume(), here or at another host, pops them again. One that breaks the
// rules gets what its ring says then, checked as ever; and a device that needs a reset pops nothing before it.
//
// A flush that runs goes back too, once: it may take long, touches nothing of the guest's, and can be done twice. The second
// time it is waited for, so that it ends however short epochs are.
void BlockBackend::quiesce() {
    std::size_t back = 0;
    {
        std::unique_lock lock(mutex_);
        back = todo_.size();
        todo_.clear();
        if (worker_state_ == Worker::Flushing && !abandoned_before_) {
            worker_state_ = Worker::Abandoned;
            abandoned_before_ = true;
            ++back;
        }
        idle_.wait(lock, [&] { return worker_state_ == Worker::Idle || worker_state_ == Worker::Abandoned; });
    }
    finish();
    host().queue(0).unpop(static_cast<std::uint16_t>(back));
    // Through this host's page cache: what it still holds the next host would not see. A disk that is replicated has a copy of
    // its own there.
    if (!disk_->direct() && !disk_->read_only() && observer_ == nullptr) (void)disk_->flush();
    parked_ = true;
}

void BlockBackend::resume() {
    parked_ = false;
}

void BlockBackend::reset() {
    std::lock_guard lock(mutex_);
    todo_.clear();
    done_.clear();
}

// The request that runs was begun under the old observer: when this returns nobody calls it any more, and no write escapes the
// new one.
void BlockBackend::observe(DiskObserver* o) {
    std::unique_lock lock(mutex_);
    DiskObserver* const old = std::exchange(observer_, o);
    idle_.wait(lock, [&] { return worker_state_ != Worker::Running; });
    lock.unlock();
    if (old != nullptr) old->on_room({});
    if (o != nullptr)
        o->on_room([this] {
            std::lock_guard again(mutex_);
            wake_.notify_all();
        });
    lock.lock();
    wake_.notify_all();
}

Result<void> BlockBackend::read(std::uint64_t offset, std::span<std::uint8_t> to) const {
    if (offset > size() || to.size() > size() - offset || (offset | to.size()) % kSectorBytes != 0)
        return fail("a read of disk " + path() + " outside of it or of broken sectors");
    const auto failed = [&] { return fail("cannot read disk " + path(), "the host's log may say more"); };
    if (disk_->takes(to)) return disk_->read(offset, to) ? Result<void>() : failed();
    const AlignedBuffer aligned(std::min(to.size(), kCopy));
    for (std::size_t done = 0; done < to.size();) {
        const auto piece = aligned.first(std::min(aligned.size(), to.size() - done));
        if (!disk_->read(offset + done, piece)) return failed();
        std::memcpy(to.data() + done, piece.data(), piece.size());
        done += piece.size();
    }
    return {};
}

}  // namespace proa::vmm
