#include "vmm/process/checkpoint_probe.hpp"

#include <algorithm>
#include <bit>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

namespace proa::vmm {
namespace {

using Clock = std::chrono::steady_clock;
using Micros = std::chrono::microseconds;
constexpr std::uint64_t kStep = 512;  // pages read at a time: other work of the guest's thread comes in between

std::int64_t micros(Clock::duration d) {
    return std::chrono::duration_cast<Micros>(d).count();
}

// One run of checkpoints, each a chain of tasks on the guest's thread: pause, wait, read in steps, compare, again.
class Probe : public std::enable_shared_from_this<Probe> {
  public:
    Probe(Guest& guest, unsigned cycles, std::chrono::milliseconds wait, Reply reply)
        : guest_(guest),
          checkpoints_(*guest.machine().checkpoints()),
          left_(cycles),
          wait_(wait),
          reply_(std::move(reply)),
          timer_(guest.io()),
          pages_(guest.memory().pages()) {}

    void start(abi::DirtyLogMode log) {
        if (auto s = guest_.machine().stats()) waits_before_ = s->copy_waits;
        if (auto r = checkpoints_.start(log); !r) return reply_.fail("failed", r.error());
        pages_.fill();
        next();
    }

  private:
    using Image = std::map<std::uint64_t, std::vector<std::uint8_t>>;

    static std::vector<std::uint8_t> bytes_of(std::span<const std::uint8_t> s) { return {s.begin(), s.end()}; }
    void later(void (Probe::*what)()) {
        boost::asio::post(guest_.io(), [self = shared_from_this(), what] { ((*self).*what)(); });
    }

    void end(const Result<void>& how) {
        auto stopped = checkpoints_.stop();
        if (!how) return reply_.fail("failed", how.error());
        if (!stopped) return reply_.fail("failed", stopped.error());
        std::uint64_t waits = 0;
        if (auto s = guest_.machine().stats()) waits = s->copy_waits - waits_before_;
        const auto spread = [](std::vector<std::int64_t>& v) {
            std::sort(v.begin(), v.end());
            return v.empty() ? Json::object() : Json{{"p50", v[v.size() / 2]}, {"max", v.back()}};
        };
        reply_.ok({{"cycles", done_},
                   {"pages", total_},
                   {"copies", copies_},
                   {"waits", waits},
                   {"wrong", wrong_},
                   {"pause_us", spread(pauses_)},
                   {"stop_us", spread(stops_)},
                   {"hold_us", spread(holds_)}});
    }

    void next() {
        if (left_ == 0 || reply_.client_gone()) return end({});
        --left_;
        const auto start = Clock::now();
        Result<void> r = guest_.pause_briefly();
        stops_.push_back(micros(Clock::now() - start));
        if (r) r = checkpoint();
        const auto saved = Clock::now();
        if (r) remember();
        const auto on = Clock::now();
        const Result<void> went_on = guest_.go_on();
        pauses_.push_back(micros(saved - start + (Clock::now() - on)));
        if (!r || !went_on) return end(r ? went_on : r);
        timer_.expires_after(wait_);
        timer_.async_wait([self = shared_from_this()](auto) { self->read(); });
    }

    Result<void> checkpoint() {
        guest_.memory().take_device_writes(pages_);
        const auto start = Clock::now();
        auto held = checkpoints_.hold(pages_);
        if (!held) return tl::unexpected(held.error());
        holds_.push_back(micros(Clock::now() - start));
        total_ += *held;
        if (auto s = guest_.machine().save(); !s) return tl::unexpected(s.error());
        for (const Device* d : guest_.devices()) (void)d->save();
        return {};
    }

    // Not part of the pause that is reported: no checkpoint needs it.
    void remember() {
        at_pause_.clear();
        image_.clear();
        copied_.clear();
        pages_.drain([&](std::uint64_t w, std::uint64_t bits) {
            for (; bits != 0; bits &= bits - 1) {
                const std::uint64_t p = w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
                at_pause_[p] = bytes_of(guest_.memory().page(p));
            }
        });
        at_ = 0;
    }

    void take() {
        checkpoints_.take_copies([&](std::uint64_t page, std::span<const std::uint8_t> bytes) {
            if (!copied_.emplace(page, bytes_of(bytes)).second) ++wrong_;  // one copy a page and checkpoint
            ++copies_;
        });
    }

    void read() {
        for (auto i = at_pause_.lower_bound(at_); i != at_pause_.end() && i->first < at_ + kStep; ++i)
            image_[i->first] = bytes_of(guest_.memory().page(i->first));
        take();
        if (auto r = checkpoints_.release(at_, kStep); !r) return end(r);
        at_ += kStep;
        later(at_ < guest_.memory().pages() ? &Probe::read : &Probe::compare);
    }

    void compare() {
        for (const auto& [page, bytes] : at_pause_) {
            const auto copy = copied_.find(page);
            if ((copy != copied_.end() ? copy->second : image_[page]) != bytes) ++wrong_;
        }
        if (auto r = checkpoints_.release_all(); !r) return end(r);
        ++done_;
        later(&Probe::next);
    }

    Guest& guest_;
    Checkpointer& checkpoints_;
    unsigned left_, done_ = 0;
    const std::chrono::milliseconds wait_;
    const Reply reply_;
    boost::asio::steady_timer timer_;
    dirtylog::Bitmap pages_;
    std::uint64_t at_ = 0, total_ = 0, copies_ = 0, wrong_ = 0, waits_before_ = 0;
    Image at_pause_, image_, copied_;
    std::vector<std::int64_t> pauses_, stops_, holds_;
};

}  // namespace

void probe_checkpoints(Guest& guest, const Json& args, const Reply& reply) {
    if (guest.machine().checkpoints() == nullptr)
        return reply.fail("refused", {"this machine can't take checkpoints", ""});
    const std::string log = args.value("log", "write-protect");
    std::make_shared<Probe>(guest, args.value("cycles", 10u),
                            std::chrono::milliseconds(args.value("wait_ms", 20u)), reply)
        ->start(log == "hardware" ? abi::DirtyLogMode::Hardware : abi::DirtyLogMode::WriteProtect);
}

void probe_fence(Machine& machine, const Json& args, const Reply& reply) {
    Checkpointer* c = machine.checkpoints();
    if (c == nullptr) return reply.fail("refused", {"this machine has no fence", ""});
    const auto ms = args.value("after_ms", std::uint64_t{0});
    c->fence_at(ms == 0 ? 0 : c->counter() + ms * c->counter_hz() / 1000);
    reply.ok();
}

}  // namespace proa::vmm
