#include "vmm/virtio/block.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace proa::vmm {
namespace {

constexpr unsigned kSegMax = 2, kRo = 5, kBlkSize = 6, kFlush = 9, kDiscard = 13, kWriteZeroes = 14;
constexpr std::uint32_t kIn = 0, kOut = 1, kFlushOp = 4, kGetId = 8, kDiscardOp = 11, kWriteZeroesOp = 13;
// Bounds on one DISCARD or WRITE_ZEROES: what the worker thread may be busy with before quiesce() gets its turn.
constexpr std::uint32_t kMostDiscard = 1u << 22, kMostZeroes = 1u << 16, kRanges = 1, kUnmap = 1;
constexpr std::uint8_t kOk = 0, kIoErr = 1, kUnsupported = 2;
constexpr std::uint32_t kSector = 512, kSegments = 126;
constexpr std::size_t kAlign = 512, kHeader = 16;

struct Config {  // 5.2.4
    std::uint64_t capacity;
    std::uint32_t size_max, seg_max;
    std::uint8_t geometry[4];
    std::uint32_t blk_size;
    std::uint8_t topology[8];
    std::uint8_t writeback, unused0;
    std::uint16_t num_queues;
    std::uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    std::uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    std::uint8_t write_zeroes_may_unmap, unused1[7];
};
static_assert(offsetof(Config, max_discard_sectors) == 36 && offsetof(Config, write_zeroes_may_unmap) == 56);

struct Range {  // 5.2.6, the data of DISCARD and WRITE_ZEROES
    std::uint64_t sector;
    std::uint32_t sectors, flags;
};
static_assert(sizeof(Range) == 16);

std::size_t total(const std::vector<Segment>& v) {
    std::size_t n = 0;
    for (const auto& s : v) n += s.bytes.size();
    return n;
}

// Whole transfers only: a short read or write goes on, an error ends it.
bool all(int fd, std::span<std::uint8_t> b, std::uint64_t at, bool write) {
    while (!b.empty()) {
        const ssize_t n = write ? ::pwrite(fd, b.data(), b.size(), static_cast<off_t>(at))
                                : ::pread(fd, b.data(), b.size(), static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        b = b.subspan(static_cast<std::size_t>(n));
        at += static_cast<std::uint64_t>(n);
    }
    return true;
}

bool write_zeroes(int fd, std::uint64_t at, std::uint64_t bytes) {
    alignas(4096) static const std::uint8_t zeroes[65536] = {};
    while (bytes != 0) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, sizeof(zeroes)));
        if (!all(fd, {const_cast<std::uint8_t*>(zeroes), n}, at, true)) return false;
        at += n;
        bytes -= n;
    }
    return true;
}

}  // namespace

Result<std::unique_ptr<BlockBackend>> BlockBackend::open(const std::string& path, bool read_only, Post post) {
    const int mode = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    bool direct = true;
    int fd = ::open(path.c_str(), mode | O_DIRECT);
    if (fd < 0 && errno == EINVAL) {  // tmpfs and the like
        direct = false;
        fd = ::open(path.c_str(), mode);
    }
    if (fd < 0)
        return fail("cannot open disk " + path + ": " + std::strerror(errno),
                    "create it, correct `disk` in the guest's config, or mark it read-only with ,r");
    struct stat st {};
    std::uint64_t bytes = 0;
    const bool device = ::fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
    if (device)
        ::ioctl(fd, BLKGETSIZE64, &bytes);
    else
        bytes = static_cast<std::uint64_t>(st.st_size);
    if (bytes < kSector) {
        ::close(fd);
        return fail("disk " + path + " is empty",
                    "it must be a raw image or a block device of at least 512 bytes");
    }
    return std::unique_ptr<BlockBackend>(
        new BlockBackend(fd, bytes, read_only, direct, device, path, std::move(post)));
}

BlockBackend::BlockBackend(int fd, std::uint64_t bytes, bool read_only, bool direct, bool device,
                           std::string path, Post post)
    : fd_(fd),
      bytes_(bytes),
      read_only_(read_only),
      direct_(direct),
      device_(device),
      path_(std::move(path)),
      post_(std::move(post)),
      worker_([this] { work(); }) {}

BlockBackend::~BlockBackend() {
    *alive_ = false;
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    worker_.join();
    ::close(fd_);
}

std::uint64_t BlockBackend::features() const {
    // The same on every host, whatever its storage can do: what a guest negotiated must be there after a move.
    return 1ull << kSegMax | 1ull << kBlkSize | 1ull << kFlush |
           (read_only_ ? 1ull << kRo : 1ull << kDiscard | 1ull << kWriteZeroes);
}

std::uint8_t BlockBackend::config(unsigned offset) const {
    Config c{};
    c.capacity = bytes_ / kSector;
    c.seg_max = kSegments;
    c.blk_size = kSector;
    if (!read_only_) {
        c.max_discard_sectors = kMostDiscard;
        c.max_discard_seg = c.max_write_zeroes_seg = kRanges;
        c.discard_sector_alignment = 4096 / kSector;
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
        wake_.wait(lock, [&] { return stop_ || !todo_.empty(); });
        if (stop_) return;
        Request r = std::move(todo_.front());
        todo_.pop_front();
        busy_ = true;
        lock.unlock();
        run(r);
        lock.lock();
        done_.push_back(std::move(r));
        busy_ = false;
        idle_.notify_all();
        if (done_.size() == 1)
            post_([this, alive = alive_] {
                if (*alive) finish();
            });
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

void BlockBackend::quiesce() {
    {
        std::unique_lock lock(mutex_);
        idle_.wait(lock, [&] { return todo_.empty() && !busy_; });
    }
    finish();
    // Through this host's page cache: what it still holds the next host would not see.
    if (!direct_ && !read_only_) (void)::fdatasync(fd_);
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

void BlockBackend::run(Request& r) {
    std::uint8_t header[kHeader];
    std::size_t have = 0;
    for (auto& s : r.chain.readable) {  // the header need not be one segment (2.7.4.1)
        const std::size_t n = std::min(kHeader - have, s.bytes.size());
        std::memcpy(header + have, s.bytes.data(), n);
        s.bytes = s.bytes.subspan(n);
        s.gpa += n;
        if ((have += n) == kHeader) break;
    }
    std::uint32_t type;
    std::uint64_t sector;
    std::memcpy(&type, header, 4);
    std::memcpy(&sector, header + 8, 8);
    switch (type) {
        case kIn: r.status = transfer(r, sector, false); break;
        case kOut: r.status = read_only_ ? kIoErr : transfer(r, sector, true); break;
        case kFlushOp: r.status = ::fdatasync(fd_) == 0 ? kOk : kIoErr; break;
        case kDiscardOp: r.status = clear(r, true); break;
        case kWriteZeroesOp: r.status = clear(r, false); break;
        case kGetId: {
            std::string name = path_.substr(path_.size() > 20 ? path_.size() - 20 : 0);
            name.resize(20);
            Segment& s = r.chain.writable.front();
            const std::size_t n = std::min<std::size_t>(20, s.bytes.size());
            std::memcpy(s.bytes.data(), name.data(), n);
            r.written = static_cast<std::uint32_t>(n);
            r.status = kOk;
            break;
        }
        default: r.status = kUnsupported; break;
    }
}

// DISCARD is a hint, so storage that can't forget is no error; after WRITE_ZEROES the range must read as zeroes.
std::uint8_t BlockBackend::clear(Request& r, bool discard) {
    if (read_only_) return kIoErr;
    if (total(r.chain.readable) != sizeof(Range)) return kUnsupported;
    Range g;
    std::size_t have = 0;
    for (const auto& s : r.chain.readable) {
        std::memcpy(reinterpret_cast<std::uint8_t*>(&g) + have, s.bytes.data(), s.bytes.size());
        have += s.bytes.size();
    }
    if ((g.flags & ~kUnmap) != 0 || (discard && g.flags != 0)) return kUnsupported;
    const std::uint64_t size = bytes_ / kSector;
    if (g.sectors > (discard ? kMostDiscard : kMostZeroes) || g.sector > size || g.sectors > size - g.sector)
        return kIoErr;
    if (g.sectors == 0) return kOk;
    std::uint64_t range[2] = {g.sector * kSector, std::uint64_t{g.sectors} * kSector};
    const auto at = static_cast<off_t>(range[0]), bytes = static_cast<off_t>(range[1]);
    if (discard) {
        const int e = device_ ? ::ioctl(fd_, BLKDISCARD, range)
                              : ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, bytes);
        return e == 0 || errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL ? kOk : kIoErr;
    }
    if (device_ && ::ioctl(fd_, BLKZEROOUT, range) == 0) return kOk;
    const int how = (g.flags & kUnmap) != 0 ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    if (!device_ && ::fallocate(fd_, how | FALLOC_FL_KEEP_SIZE, at, bytes) == 0) return kOk;
    return write_zeroes(fd_, range[0], range[1]) ? kOk : kIoErr;
}

std::uint8_t BlockBackend::transfer(Request& r, std::uint64_t sector, bool write) {
    auto& segments = write ? r.chain.readable : r.chain.writable;
    std::size_t bytes = total(segments) - (write ? 0 : 1);  // the last writable byte is the status
    if (sector > bytes_ / kSector || bytes % kSector != 0 || bytes > bytes_ - sector * kSector) return kIoErr;
    std::uint64_t at = sector * kSector;
    if (!write) r.written = static_cast<std::uint32_t>(bytes);
    for (auto& s : segments) {
        auto part = s.bytes.first(std::min(s.bytes.size(), bytes));
        bytes -= part.size();
        if (part.empty()) continue;
        const bool aligned = (reinterpret_cast<std::uintptr_t>(part.data()) | part.size()) % kAlign == 0;
        if (!direct_ || aligned) {
            if (!all(fd_, part, at, write)) return kIoErr;
        } else {
            if (part.size() % kSector != 0) return kIoErr;
            std::unique_ptr<std::uint8_t, decltype(&std::free)> bounce(
                static_cast<std::uint8_t*>(std::aligned_alloc(4096, (part.size() + 4095) & ~std::size_t{4095})),
                &std::free);
            if (!bounce) return kIoErr;
            if (write) std::memcpy(bounce.get(), part.data(), part.size());
            if (!all(fd_, {bounce.get(), part.size()}, at, write)) return kIoErr;
            if (!write) std::memcpy(part.data(), bounce.get(), part.size());
        }
        at += part.size();
    }
    return kOk;
}

}  // namespace proa::vmm
