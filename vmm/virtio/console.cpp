#include "vmm/virtio/console.hpp"

#include <sys/random.h>

namespace proa::vmm {
namespace {

constexpr unsigned kReceive = 0, kTransmit = 1, kEventIdx = 29;
constexpr std::size_t kMostPending = 64 * 1024, kMostRandom = 64 * 1024;

}  // namespace

void ConsoleBackend::notified(unsigned queue) {
    if (parked_) return;
    if (queue == kReceive) return feed();
    SplitQueue& q = host().queue(kTransmit);
    GuestMemory& m = host().memory();
    do {
        Chain c;
        SplitQueue::Pop p;
        while ((p = q.pop(m, c)) == SplitQueue::Pop::Got) {
            for (const auto& s : c.readable) output_(s.bytes);
            q.push(m, c.head, 0);
        }
        if (p == SplitQueue::Pop::Broken) return host().broken("bad console chain");
    } while (q.enable_notify(m, host().feature(kEventIdx)));
    host().used(kTransmit);
}

void ConsoleBackend::input(std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t b : bytes)
        if (pending_.size() < kMostPending) pending_.push_back(b);
    if (!parked_) feed();
}

void ConsoleBackend::feed() {
    SplitQueue& q = host().queue(kReceive);
    GuestMemory& m = host().memory();
    bool any = false;
    while (!pending_.empty()) {
        Chain c;
        const SplitQueue::Pop p = q.pop(m, c);
        if (p == SplitQueue::Pop::Broken) return host().broken("bad console chain");
        if (p == SplitQueue::Pop::Empty) {
            if (q.ready && q.enable_notify(m, host().feature(kEventIdx))) continue;
            break;
        }
        std::uint32_t n = 0;
        for (auto& s : c.writable) {
            for (auto& b : s.bytes) {
                if (pending_.empty()) break;
                b = pending_.front();
                pending_.pop_front();
                ++n;
            }
            m.mark_dirty(s.gpa, s.bytes.size());
        }
        q.push(m, c.head, n);
        any = true;
    }
    if (any) host().used(kReceive);
}

std::uint8_t ConsoleBackend::config(unsigned offset) const {
    return offset < 4 ? static_cast<std::uint8_t>(size_[offset / 2] >> (8 * (offset % 2))) : std::uint8_t{0};
}

void ConsoleBackend::resize(std::uint16_t columns, std::uint16_t rows) {
    if (size_[0] == columns && size_[1] == rows) return;
    size_[0] = columns;
    size_[1] = rows;
    host().config_changed();
}

void ConsoleBackend::save(BlobWriter& w) const {
    w.put(size_);
    w.put_bytes(std::vector<std::uint8_t>(pending_.begin(), pending_.end()));
}

bool ConsoleBackend::load(BlobReader& r) {
    const auto columns = r.get<std::uint16_t>(), rows = r.get<std::uint16_t>();
    const auto b = r.get_bytes(kMostPending);
    if (r.failed()) return false;
    size_[0] = columns;
    size_[1] = rows;
    pending_.assign(b.begin(), b.end());
    return true;
}

void RngBackend::notified(unsigned) {
    if (parked_) return;
    SplitQueue& q = host().queue(0);
    GuestMemory& m = host().memory();
    do {
        Chain c;
        SplitQueue::Pop p;
        while ((p = q.pop(m, c)) == SplitQueue::Pop::Got) {
            std::size_t n = 0;
            for (auto& s : c.writable) {
                auto part = s.bytes.first(std::min(s.bytes.size(), kMostRandom - n));
                const ssize_t got = part.empty() ? 0 : ::getrandom(part.data(), part.size(), 0);
                if (got <= 0) break;
                m.mark_dirty(s.gpa, static_cast<std::size_t>(got));
                n += static_cast<std::size_t>(got);
            }
            q.push(m, c.head, static_cast<std::uint32_t>(n));
        }
        if (p == SplitQueue::Pop::Broken) return host().broken("bad rng chain");
    } while (q.enable_notify(m, host().feature(29)));
    host().used(0);
}

}  // namespace proa::vmm
