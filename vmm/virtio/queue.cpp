#include "vmm/virtio/queue.hpp"

#include <atomic>
#include <cstring>

namespace proa::vmm {
namespace {

struct Descriptor {
    std::uint64_t addr;
    std::uint32_t len;
    std::uint16_t flags, next;
};
constexpr std::uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
constexpr std::uint16_t kNoInterrupt = 1;          // avail.flags
constexpr std::uint64_t kMostBytes = 64ull << 20;  // of one request

template <class T>
T load_at(std::span<const std::uint8_t> s, std::size_t at) {
    T v;
    std::memcpy(&v, s.data() + at, sizeof(T));
    return v;
}
std::uint16_t read16(GuestMemory& m, std::uint64_t gpa) {
    auto s = m.slice(gpa, 2);
    return s ? std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(s->data()))
                   .load(std::memory_order_acquire)
             : std::uint16_t{0};
}
void write16(GuestMemory& m, std::uint64_t gpa, std::uint16_t v) {
    auto s = m.slice(gpa, 2);
    if (!s) return;
    m.before_write(gpa, 2);
    std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(s->data()))
        .store(v, std::memory_order_release);
    m.mark_dirty(gpa, 2);
}

}  // namespace

bool SplitQueue::valid(GuestMemory& m) const {
    if (size == 0 || size > kMaxSize || (size & (size - 1)) != 0) return false;
    if (desc % 16 != 0 || avail % 2 != 0 || used % 4 != 0) return false;
    return m.slice(desc, 16ull * size) && m.slice(avail, 6 + 2ull * size) && m.slice(used, 6 + 8ull * size);
}

bool SplitQueue::has_work(GuestMemory& m) const {
    return ready && read16(m, avail + 2) != last_avail_;
}

bool SplitQueue::add_chain(GuestMemory& m, std::span<const std::uint8_t> table, std::uint16_t first, Chain& out,
                           bool indirect) {
    const std::size_t entries = table.size() / sizeof(Descriptor);
    std::uint64_t total = 0;
    std::uint16_t at = first;
    for (std::size_t steps = 0;; ++steps) {
        if (at >= entries || steps >= entries) return false;  // out of the table, or a loop
        const auto d = load_at<Descriptor>(table, at * sizeof(Descriptor));
        if ((d.flags & kIndirect) != 0) {
            // Not nested, and last of its chain (2.7.5.3.1).
            if (indirect || (d.flags & kNext) != 0 || d.len == 0 || d.len % sizeof(Descriptor) != 0)
                return false;
            if (d.len / sizeof(Descriptor) > 1024) return false;
            auto inner = m.slice(d.addr, d.len);
            return inner && add_chain(m, *inner, 0, out, true);
        }
        auto bytes = m.slice(d.addr, d.len);
        total += d.len;
        if (!bytes || total > kMostBytes) return false;
        if ((d.flags & kWrite) == 0 && !out.writable.empty()) return false;
        // An empty buffer is nothing to a device, and a trap for one that looks at a segment's last byte.
        if (d.len != 0) ((d.flags & kWrite) != 0 ? out.writable : out.readable).push_back({*bytes, d.addr});
        if ((d.flags & kNext) == 0) return true;
        at = d.next;
    }
}

SplitQueue::Pop SplitQueue::pop(GuestMemory& m, Chain& out) {
    if (!ready) return Pop::Empty;
    const std::uint16_t idx = read16(m, avail + 2);
    const auto waiting = static_cast<std::uint16_t>(idx - last_avail_);
    if (waiting == 0) return Pop::Empty;
    if (waiting > size) return Pop::Broken;
    out.readable.clear();
    out.writable.clear();
    out.head = read16(m, avail + 4 + 2ull * (last_avail_ % size));
    auto table = m.slice(desc, 16ull * size);
    if (!table || !add_chain(m, *table, out.head, out, false)) return Pop::Broken;
    ++last_avail_;
    // Whoever gets the chain writes it when it likes, on whatever thread: now is the last moment to be sure of.
    for (const Segment& s : out.writable) m.before_write(s.gpa, s.bytes.size());
    return Pop::Got;
}

void SplitQueue::push(GuestMemory& m, std::uint16_t head, std::uint32_t written) {
    const std::uint64_t at = used + 4 + 8ull * (used_idx_ % size);
    if (auto s = m.slice(at, 8)) {
        const std::uint32_t entry[2] = {head, written};
        m.before_write(at, 8);
        std::memcpy(s->data(), entry, 8);
        m.mark_dirty(at, 8);
    }
    ++used_idx_;
    write16(m, used + 2, used_idx_);
}

bool SplitQueue::wants_interrupt(GuestMemory& m, bool event_idx) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint16_t old = signalled_;
    if (old == used_idx_) return false;
    signalled_ = used_idx_;
    if (!event_idx) return (read16(m, avail) & kNoInterrupt) == 0;
    const std::uint16_t event = read16(m, avail + 4 + 2ull * size);
    return static_cast<std::uint16_t>(used_idx_ - event - 1) < static_cast<std::uint16_t>(used_idx_ - old);
}

bool SplitQueue::unseen(GuestMemory& m, bool event_idx) const {
    if (!ready) return false;
    if (!event_idx) return (read16(m, avail) & kNoInterrupt) == 0;
    return static_cast<std::int16_t>(used_idx_ - read16(m, avail + 4 + 2ull * size)) > 0;
}

bool SplitQueue::enable_notify(GuestMemory& m, bool event_idx) {
    if (event_idx)
        write16(m, used + 4 + 8ull * size, last_avail_);
    else
        write16(m, used, 0);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return has_work(m);
}

void SplitQueue::save(BlobWriter& w) const {
    w.put(size);
    w.put(static_cast<std::uint8_t>(ready));
    w.put(desc);
    w.put(avail);
    w.put(used);
    w.put(last_avail_);
    w.put(used_idx_);
    w.put(signalled_);
}

bool SplitQueue::load(BlobReader& r) {
    size = r.get<std::uint16_t>();
    ready = r.get<std::uint8_t>() != 0;
    desc = r.get<std::uint64_t>();
    avail = r.get<std::uint64_t>();
    used = r.get<std::uint64_t>();
    last_avail_ = r.get<std::uint16_t>();
    used_idx_ = r.get<std::uint16_t>();
    signalled_ = r.get<std::uint16_t>();
    return !r.failed() && size <= kMaxSize;
}

}  // namespace proa::vmm
