#include "vmm/virtio/net.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace proa::vmm {
namespace {

constexpr unsigned kMac = 5, kStatus = 16, kMrgRxbuf = 15, kCtrlVq = 17, kGuestAnnounce = 21, kEventIdx = 29;
constexpr unsigned kRx = 0, kTx = 1, kControl = 2;
constexpr std::uint8_t kClassAnnounce = 3, kAnnounceAck = 0;  // 5.1.6.5.4
constexpr std::uint8_t kControlOk = 0, kControlError = 1;
constexpr std::size_t kHeader = kVirtioNetHeader;
constexpr std::size_t kMostLate = 256;
constexpr std::chrono::milliseconds kAnswersFirst{200};
constexpr std::uint8_t kLinkUp = 1, kAnnounce = 2;  // the status field's low byte

std::size_t gather(const std::vector<Segment>& from, std::span<std::uint8_t> to) {
    std::size_t n = 0;
    for (const auto& s : from) {
        if (s.bytes.size() > to.size() - n) return 0;
        std::memcpy(to.data() + n, s.bytes.data(), s.bytes.size());
        n += s.bytes.size();
    }
    return n;
}

}  // namespace

std::uint64_t NetBackend::features() const {
    return 1ull << kMac | 1ull << kStatus | 1ull << kMrgRxbuf | 1ull << kCtrlVq | 1ull << kGuestAnnounce |
           port_->offloads();
}

std::uint64_t NetBackend::negotiated_offloads() const {
    std::uint64_t v = 0;
    for (unsigned b = 0; b < 24; ++b)
        if ((port_->offloads() >> b & 1) != 0 && host().feature(b)) v |= 1ull << b;
    return v;
}

std::uint8_t NetBackend::config(unsigned offset) const {
    if (offset < 6) return mac_[offset];
    if (offset != 6) return 0;
    return static_cast<std::uint8_t>(kLinkUp | (announcing_ ? kAnnounce : 0));
}

void NetBackend::notified(unsigned queue) {
    if (parked_) return;
    if (queue == kTx) return transmit();
    if (queue == kControl) return control();
    if (queue == kRx) {
        port_->want_input(true);
        input();
    }
}

void NetBackend::transmit() {
    SplitQueue& q = host().queue(kTx);
    GuestMemory& m = host().memory();
    do {
        Chain c;
        auto p = SplitQueue::Pop::Empty;
        while (!(stalled_ = !port_->takes_output()) && (p = q.pop(m, c)) == SplitQueue::Pop::Got) {
            const std::size_t n = gather(c.readable, out_);
            if (n > kHeader) port_->send({out_.data(), n});
            q.push(m, c.head, 0);
        }
        if (!stalled_ && p == SplitQueue::Pop::Broken) return host().broken("bad transmit chain");
    } while (!stalled_ && q.enable_notify(m, host().feature(kEventIdx)));
    host().used(kTx);
}

// Parked: resume() looks at all queues again.
void NetBackend::output() {
    if (stalled_ && !parked_) transmit();
}

// A command is class, command and data; one byte of answer follows (5.1.6.5).
std::uint8_t NetBackend::control_command(const Chain& c) {
    std::uint8_t header[2];
    std::size_t have = 0;
    for (const auto& s : c.readable)
        for (std::size_t i = 0; i < s.bytes.size() && have < sizeof(header); ++i) header[have++] = s.bytes[i];
    if (have < sizeof(header) || header[0] != kClassAnnounce || header[1] != kAnnounceAck) return kControlError;
    announcing_ = false;
    return kControlOk;
}

void NetBackend::control() {
    SplitQueue& q = host().queue(kControl);
    GuestMemory& m = host().memory();
    do {
        Chain c;
        SplitQueue::Pop p;
        while ((p = q.pop(m, c)) == SplitQueue::Pop::Got) {
            if (c.writable.empty() || c.writable.back().bytes.empty())
                return host().broken("no room for an answer");
            const Segment& to = c.writable.back();
            to.bytes.back() = control_command(c);
            m.mark_dirty(to.gpa, to.bytes.size());
            q.push(m, c.head, 1);
        }
        if (p == SplitQueue::Pop::Broken) return host().broken("bad control chain");
    } while (q.enable_notify(m, host().feature(kEventIdx)));
    host().used(kControl);
}

std::size_t NetBackend::next_frame() {
    if (late_.empty()) return port_->receive(frame_);
    const std::size_t n = late_.front().size();
    std::copy(late_.front().begin(), late_.front().end(), frame_.begin());
    late_.pop_front();
    return n;
}

// Not what the guest itself has sent: its announcement, once it runs elsewhere.
std::vector<std::vector<std::uint8_t>> NetBackend::take_input(std::size_t most) {
    std::vector<std::vector<std::uint8_t>> frames;
    while (parked_ && frames.size() < most) {
        if (held_ == 0 && (held_ = next_frame()) == 0) break;
        const std::size_t n = std::exchange(held_, 0);
        if (n >= kHeader + 12 && std::equal(mac_.begin(), mac_.end(), frame_.begin() + kHeader + 6)) continue;
        frames.emplace_back(frame_.begin(), frame_.begin() + static_cast<std::ptrdiff_t>(n));
    }
    return frames;
}

void NetBackend::give_input(std::span<const std::uint8_t> frame) {
    if (frame.size() <= kHeader || frame.size() > frame_.size() || late_.size() == kMostLate) return;
    late_.emplace_back(frame.begin(), frame.end());
    input();
}

// One frame may take several buffers (MRG_RXBUF): they are all popped before any is used, so that a frame for which
// there are too few waits whole in frame_. Without the feature, one buffer must do.
void NetBackend::input() {
    if (parked_) return;
    SplitQueue& q = host().queue(kRx);
    GuestMemory& m = host().memory();
    if (!q.ready) return port_->want_input(false);  // until the driver fills the queue and says so
    bool any = false;
    for (;;) {
        if (held_ == 0 && (held_ = next_frame()) == 0) break;
        if (!q.has_work(m) && !q.enable_notify(m, host().feature(kEventIdx))) {
            port_->want_input(false);
            break;
        }
        std::size_t done = 0;
        std::uint16_t buffers = 0;
        std::uint64_t count_at = 0;
        std::vector<std::pair<std::uint16_t, std::uint32_t>> used;
        while (done < held_) {
            Chain c;
            const SplitQueue::Pop p = q.pop(m, c);
            if (p == SplitQueue::Pop::Broken) return host().broken("bad receive chain");
            if (p == SplitQueue::Pop::Empty) break;  // the rest is dropped: the driver gave too little
            std::uint32_t put = 0;
            for (auto& s : c.writable) {
                const std::size_t n = std::min(s.bytes.size(), held_ - done);
                if (n == 0) break;
                std::memcpy(s.bytes.data(), frame_.data() + done, n);
                m.mark_dirty(s.gpa, n);
                if (buffers == 0 && put <= 10 && put + n >= kHeader) count_at = s.gpa + 10 - put;
                done += n;
                put += static_cast<std::uint32_t>(n);
            }
            used.emplace_back(c.head, put);
            ++buffers;
            if (!host().feature(kMrgRxbuf)) break;
        }
        held_ = 0;
        if (count_at != 0)
            if (auto s = m.slice(count_at, 2)) std::memcpy(s->data(), &buffers, 2);
        for (const auto& [head, n] : used) q.push(m, head, n);
        any = true;
    }
    if (any) host().used(kRx);
}

void NetBackend::reset() {
    held_ = 0;
    stalled_ = false;
    late_.clear();
    announcing_ = asking_ = false;
    port_->want_input(false);
}

bool NetBackend::load(BlobReader& r) {
    const auto announcing = r.get<std::uint8_t>();
    if (r.failed() || announcing > 1) return false;
    announcing_ = announcing != 0;
    return loaded_ = true;
}

void NetBackend::quiesce() {
    parked_ = true;
    port_->want_input(false);
}

void NetBackend::arrive() {
    parked_ = false;
    input();
    parked_ = true;
}

void NetBackend::resume() {
    parked_ = false;
    port_->want_input(true);
    if (asking_) ask_guest_to_announce();  // its time may have come while this was parked
    if (std::exchange(loaded_, false)) announce();
}

void NetBackend::announce() {
    std::uint8_t f[kHeader + 60] = {};
    std::uint8_t* e = f + kHeader;
    std::memset(e, 0xff, 6);
    std::memcpy(e + 6, mac_.data(), 6);
    const std::uint8_t rarp[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};  // reverse request, Ethernet, IPv4
    std::memcpy(e + 12, rarp, sizeof(rarp));
    std::memcpy(e + 22, mac_.data(), 6);
    std::memcpy(e + 32, mac_.data(), 6);
    port_->send(f);
    if (!host().feature(kGuestAnnounce)) return;
    announcing_ = true;
    if (std::exchange(asking_, true)) return;
    if (!later_) return ask_guest_to_announce();
    later_(kAnswersFirst, [this] { ask_guest_to_announce(); });
}

void NetBackend::ask_guest_to_announce() {
    if (parked_ || !std::exchange(asking_, false)) return;
    host().config_changed();
}

}  // namespace proa::vmm
