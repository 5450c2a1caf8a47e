#include "migrate/outgoing.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "migrate/on_guest.hpp"
#include "migrate/page_batch.hpp"
#include "transport/rate.hpp"

namespace proa::migrate {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t kWordsPerChunk =
    8;  // 512 pages, 2 MiB: one channel's share, so one page has one channel
constexpr std::uint64_t kSettle = 1u << 20;

double seconds_since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
}

vmm::Error local(const transport::Error& e) {
    return {e.what, e.remedy};
}
template <class T>
vmm::Result<T> lift(transport::Result<T> r) {
    if (r) return std::move(*r);
    return tl::unexpected(local(r.error()));
}
vmm::Result<void> lift(const transport::Result<void>& r) {
    if (r) return {};
    return tl::unexpected(local(r.error()));
}

}  // namespace

// A data channel and what it needs to fill it.
struct Outgoing::Worker {
    Worker(std::unique_ptr<transport::Channel> c, int level, std::uint64_t rate)
        : channel(std::move(c)), compressor(level), limiter(rate) {}

    transport::Result<void> flush() {
        if (batch.empty()) return {};
        const auto raw = batch.bytes();
        const auto squeezed = compressor.compress(raw);
        const auto type = static_cast<std::uint16_t>(Record::Pages);
        const auto start = Clock::now();
        const std::uint64_t before = channel->bytes_sent();
        auto r = squeezed.empty()
                     ? channel->send(type, raw)
                     : channel->send_compressed(type, squeezed, static_cast<std::uint32_t>(raw.size()));
        link.sample(channel->bytes_sent() - before, Clock::now() - start);
        compressor.link_speed(link.bytes_per_second());
        batch.clear();
        std::this_thread::sleep_for(limiter.take(channel->bytes_sent() - before, Clock::now()));
        return r;
    }
    transport::Result<void> send(vmm::GuestMemory& memory, const std::vector<std::uint64_t>& words,
                                 unsigned index, unsigned of, std::uint32_t round) {
        for (std::uint64_t w = 0; w < words.size(); ++w) {
            if (words[w] == 0 || w / kWordsPerChunk % of != index) continue;
            for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
                const std::uint64_t page = w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
                batch.add(page, memory.page(page));
                if (!batch.full()) continue;
                if (auto r = flush(); !r) return r;
            }
        }
        if (auto r = flush(); !r) return r;
        return send_value(*channel, Record::RoundEnd, round);
    }

    std::unique_ptr<transport::Channel> channel;
    transport::Compressor compressor;
    transport::RateLimiter limiter;
    transport::BandwidthEstimator link;
    BatchEncoder batch;
};

Outgoing::Outgoing(vmm::GuestProcess& guest, OutgoingOptions options, Progress progress, Done done)
    : guest_(guest),
      options_(std::move(options)),
      progress_(std::move(progress)),
      done_(std::move(done)),
      precopy_(options_.policy),
      dirty_(guest.memory().pages()),
      thread_([this] { run(); }) {}

Outgoing::~Outgoing() {
    cancel();
    if (thread_.joinable()) thread_.join();
}

void Outgoing::cancel() {
    cancelled_ = true;
    std::lock_guard lock(mutex_);
    // Once committed, closing the channels would only cost us the answer.
    if (state_ == SourceState::Committed || state_ == SourceState::InDoubt) return;
    if (control_) control_->cancel();
    for (auto& w : workers_) w->channel->cancel();
}

vmm::Result<void> Outgoing::check() const {
    if (cancelled_) return vmm::fail("the migration was cancelled; the guest runs here");
    return {};
}

void Outgoing::run() {
    started_ = Clock::now();
    last_report_ = started_ - std::chrono::seconds(1);
    vmm::Result<void> r = connect();
    if (r) r = copy();
    if (r) r = stop_and_send();
    if (r) r = commit();
    if (!r) {
        error_ = r.error();
        event(SourceEvent::Failed);
    }
    stats_.total_ms = static_cast<std::uint64_t>(seconds_since(started_) * 1e3);
    stats_.throttle = precopy_.throttle();
    stats_.note = precopy_.reason();
    const Outcome outcome{state_, error_, cancelled_, stats_};
    boost::asio::post(guest_.io(), [done = done_, outcome] { done(outcome); });
}

void Outgoing::event(SourceEvent e) {
    SourceStep s;
    {
        std::lock_guard lock(mutex_);
        s = step(state_, e);
        state_ = s.next;
    }
    act(s.action);
}

void Outgoing::act(SourceAction a) {
    switch (a) {
        case SourceAction::ResumeGuest: {
            auto r = on_guest(guest_, [this]() -> vmm::Result<void> {
                (void)guest_.machine().set_throttle(0);
                auto result =
                    guest_.state() == vmm::GuestState::Switching ? guest_.thaw() : vmm::Result<void>{};
                (void)guest_.machine().dirty_log(abi::DirtyLogMode::Off);
                guest_.set_state(vmm::GuestState::Running);
                return result;
            });
            if (!r) spdlog::error("cannot resume the guest: {}", r.error().what);
            return;
        }
        case SourceAction::Ask: {
            std::optional<SourceEvent> answer;
            for (unsigned tries = 0; tries < 5 && !answer; ++tries) {
                answer = options_.ask ? options_.ask() : std::nullopt;
                if (!answer) std::this_thread::sleep_for(std::chrono::milliseconds(500));
            }
            if (answer) return event(*answer);
            error_ = {
                "the link was lost at the moment of commit and the destination can't be asked whether the "
                "guest "
                "runs there: it stays paused here",
                "when " + options_.host + " is reachable: proa migrate --resolve " + guest_.config().name +
                    "; if that host is dead for certain: proa unpause " + guest_.config().name};
            on_guest(guest_, [this] {
                guest_.set_state(vmm::GuestState::Paused);
                return 0;
            });
            return;
        }
        default: return;  // the others are carried out where the event arises
    }
}

bool Outgoing::resolve() {
    if (state_ != SourceState::InDoubt) return true;
    const auto answer = options_.ask ? options_.ask() : std::nullopt;
    if (!answer) return false;
    // On the guest's own thread: act() must not wait for it.
    const SourceStep s = step(state_, *answer);
    state_ = s.next;
    if (s.action == SourceAction::ResumeGuest) {
        (void)guest_.thaw();
        (void)guest_.machine().dirty_log(abi::DirtyLogMode::Off);
    }
    return true;
}

vmm::Result<void> Outgoing::connect() {
    for (unsigned i = 0; i <= options_.data_channels; ++i) {
        if (auto r = check(); !r) return r;
        auto c = transport::dial(options_.host, options_.port, options_.channel);
        if (!c) return tl::unexpected(local(c.error()));
        HelloRecord h;
        h.channel = i;
        h.channels = options_.data_channels;
        h.token = options_.token;
        if (auto r = send_value(**c, Record::Hello, h); !r) return lift(r);
        if (auto r = expect(**c, Record::Welcome); !r) return tl::unexpected(local(r.error()));
        std::lock_guard lock(mutex_);
        if (i == 0)
            control_ = std::move(*c);
        else
            workers_.push_back(std::make_unique<Worker>(std::move(*c), options_.compress,
                                                        options_.bandwidth / options_.data_channels));
    }
    return {};
}

// The dirty set: stage-2 log and device models' writes (what was sent and not acknowledged stays in no set: a failed
// round ends the migration, and the source's memory is the truth).
vmm::Result<std::uint64_t> Outgoing::collect() {
    return on_guest(guest_, [this]() -> vmm::Result<std::uint64_t> {
        auto n = guest_.machine().harvest(dirty_);
        guest_.memory().take_device_writes(dirty_);
        return n;
    });
}

vmm::Result<RoundStats> Outgoing::send_round(dirtylog::Bitmap& pages, bool final) {
    const auto start = Clock::now();
    std::vector<std::uint64_t> words(pages.words());
    RoundStats s;
    pages.drain([&](std::uint64_t w, std::uint64_t bits) {
        words[w] = bits;
        s.pages += static_cast<std::uint64_t>(std::popcount(bits));
    });
    std::uint64_t zero_before = 0, bytes_before = 0;
    for (auto& w : workers_) zero_before += w->batch.counts().zero, bytes_before += w->channel->bytes_sent();
    std::vector<transport::Result<void>> results(workers_.size());
    const auto body = [&](unsigned i) {
        results[i] =
            workers_[i]->send(guest_.memory(), words, i, static_cast<unsigned>(workers_.size()), round_);
        if (!results[i]) control_->cancel();  // or the wait for the acknowledgement would outlive the channel
    };
    std::vector<std::thread> threads;
    // A short last round is sent by this thread: starting others would cost more than it saves.
    const bool alone = final && s.pages < 512;
    for (unsigned i = 0; i < workers_.size(); ++i) {
        if (alone)
            body(i);
        else
            threads.emplace_back(body, i);
    }
    if (!final) {
        const std::uint64_t total = s.pages;
        std::atomic<bool> stop{false};
        std::thread reporter([&] {
            while (!stop) {
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
                report(round_ == 0 ? "first round" : "copying", total);
            }
        });
        for (auto& t : threads) t.join();
        stop = true;
        reporter.join();
    } else {
        for (auto& t : threads) t.join();
    }
    for (auto& r : results)
        if (!r) return tl::unexpected(cancelled_ ? check().error() : local(r.error()));
    for (auto& w : workers_) s.zero += w->batch.counts().zero, s.wire_bytes += w->channel->bytes_sent();
    s.zero -= zero_before;
    s.wire_bytes -= bytes_before;
    if (!final) {
        auto ack = expect(*control_, Record::RoundAck);
        if (!ack) return tl::unexpected(cancelled_ ? check().error() : local(ack.error()));
        std::uint32_t round = ~0u;
        if (ack->size() == 4) std::memcpy(&round, ack->data(), 4);
        if (round != round_) return vmm::fail("the peer acknowledged another round");
    }
    ++round_;
    s.seconds = seconds_since(start);
    stats_.wire_bytes += s.wire_bytes;
    return s;
}

vmm::Result<void> Outgoing::copy() {
    auto on = on_guest(guest_, [this]() -> vmm::Result<void> {
        if (guest_.state() != vmm::GuestState::Running)
            return vmm::fail(guest_.config().name + " is not running");
        auto mode = options_.log;
        if (mode == abi::DirtyLogMode::Hardware && !guest_.machine().has_hardware_dirty_log())
            mode = abi::DirtyLogMode::WriteProtect;
        auto r = guest_.machine().dirty_log(mode);
        if (r) guest_.set_state(vmm::GuestState::Migrating);
        return r;
    });
    if (!on) return on;
    dirty_.fill();
    for (;;) {
        if (auto r = check(); !r) return r;
        auto s = send_round(dirty_, false);
        if (!s) return tl::unexpected(s.error());
        auto n = collect();
        if (!n) return tl::unexpected(n.error());
        s->dirty_after = dirty_.count();
        stats_.rounds.push_back(*s);
        const Verdict v = precopy_.after_round({s->pages, s->wire_bytes, Seconds(s->seconds), s->dirty_after});
        report("copying", s->dirty_after);
        if (v == Verdict::StopGuest) return {};
        if (v == Verdict::GiveUp)
            return vmm::fail("the migration does not converge: " + precopy_.reason(),
                             "raise --downtime, or use --auto-converge");
        if (v == Verdict::Throttle)
            if (auto r =
                    on_guest(guest_, [this] { return guest_.machine().set_throttle(precopy_.throttle()); });
                !r)
                return r;
    }
}

vmm::Result<void> Outgoing::stop_and_send() {
    if (auto r = check(); !r) return r;
    event(SourceEvent::StopGuest);
    std::vector<std::uint8_t> machine;
    std::vector<std::vector<std::uint8_t>> devices;
    auto frozen = on_guest(guest_, [&]() -> vmm::Result<void> {
        stopped_ = Clock::now();
        if (auto r = guest_.freeze(); !r) return r;
        auto n = guest_.machine().harvest(dirty_);
        if (!n) return tl::unexpected(n.error());
        guest_.memory().take_device_writes(dirty_);
        auto s = guest_.machine().save();
        if (!s) return tl::unexpected(s.error());
        machine = encode_machine(*s);
        for (vmm::Device* d : guest_.devices()) devices.push_back(encode_device({d->name(), d->save()}));
        return {};
    });
    if (!frozen) return frozen;
    const std::uint32_t last[2] = {round_, static_cast<std::uint32_t>(devices.size())};
    auto s = send_round(dirty_, true);
    if (!s) return tl::unexpected(s.error());
    stats_.rounds.push_back(*s);
    if (auto r = send(*control_, Record::Machine, machine); !r) return lift(r);
    for (const auto& d : devices)
        if (auto r = send(*control_, Record::Device, d); !r) return lift(r);
    if (auto r = send_value(*control_, Record::StateComplete, last); !r) return lift(r);
    // The last round's acknowledgement, sent on the way to Ready.
    if (auto ack = expect(*control_, Record::RoundAck); !ack)
        return tl::unexpected(cancelled_ ? check().error() : local(ack.error()));
    auto ready = expect(*control_, Record::Ready);
    if (!ready) return tl::unexpected(cancelled_ ? check().error() : local(ready.error()));
    return check();
}

vmm::Result<void> Outgoing::commit() {
    event(SourceEvent::ReadyCame);
    if (auto r = send(*control_, Record::Commit); !r) return lift(r);
    auto started = expect(*control_, Record::Started);
    if (!started) return tl::unexpected(local(started.error()));
    stats_.downtime_ms = seconds_since(stopped_) * 1e3;
    event(SourceEvent::StartedCame);
    return {};
}

void Outgoing::report(const char* phase, std::uint64_t remaining) {
    if (!progress_ || seconds_since(last_report_) < 0.1) return;
    const double since = seconds_since(last_report_);
    last_report_ = Clock::now();
    std::uint64_t sent = 0;
    for (auto& w : workers_) sent += w->channel->bytes_sent();
    const double elapsed = seconds_since(started_),
                 rate = elapsed > 0 ? static_cast<double>(sent) / elapsed : 0;
    const double all = static_cast<double>(guest_.memory().size());
    const double left =
        round_ == 0 ? std::max(0.0, all - static_cast<double>(sent)) : static_cast<double>(remaining) * 4096;
    // Each round leaves dirty/bandwidth of itself to the next: a geometric series.
    const double again = rate > 0 ? std::min(0.9, precopy_.dirty_bytes_per_second() / rate) : 0;
    const double eta = rate > 0 ? left / rate / (1 - again) : 0;
    last_percent_ = std::max(last_percent_, std::min(99.0, 100 * elapsed / std::max(0.001, elapsed + eta)));
    vmm::Json j{{"phase", phase},
                {"round", round_},
                {"sent_bytes", sent},
                {"remaining_bytes", static_cast<std::uint64_t>(left)},
                {"mb_per_s", rate / 1048576},
                {"dirty_mb_per_s", precopy_.dirty_bytes_per_second() / 1048576},
                {"percent", last_percent_},
                {"throttle", precopy_.throttle()},
                {"message", precopy_.reason()}};
    // No estimate from the first few buffers: they measure the sockets' memory, not the link.
    if (sent > 2 * kSettle || elapsed > 5)
        j["eta_ms"] = static_cast<std::uint64_t>(eta_.update(Seconds(eta), Seconds(since)).count() * 1e3);
    boost::asio::post(guest_.io(), [p = progress_, j = std::move(j)] { p(j); });
}

}  // namespace proa::migrate
