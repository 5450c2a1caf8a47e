#include "migrate/outgoing.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <condition_variable>

#include "migrate/on_guest.hpp"

namespace proa::migrate {
namespace {

using Clock = std::chrono::steady_clock;

// A last round shorter than this is sent by one thread: starting others would cost more than it saves.
constexpr std::uint64_t kAlone = 512;
constexpr std::uint64_t kSettle = 1u << 20;

double seconds_since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
}

}  // namespace

nlohmann::json to_json(const MigrationStats& s) {
    auto rounds = nlohmann::json::array();
    for (const auto& r : s.rounds)
        rounds.push_back({{"pages", r.pages},
                          {"zero", r.zero},
                          {"wire_bytes", r.wire_bytes},
                          {"ms", r.seconds * 1e3},
                          {"dirty_after", r.dirty_after}});
    const nlohmann::json parts{{"freeze_ms", s.downtime.freeze_ms},
                               {"state_ms", s.downtime.state_ms},
                               {"last_pages_ms", s.downtime.last_pages_ms},
                               {"ready_ms", s.downtime.ready_ms},
                               {"start_ms", s.downtime.start_ms}};
    return {{"rounds", rounds},       {"wire_bytes", s.wire_bytes},
            {"total_ms", s.total_ms}, {"downtime_ms", s.downtime.all()},
            {"downtime", parts},      {"late_frames", s.late_frames},
            {"throttle", s.throttle}, {"note", s.note}};
}

Outgoing::Outgoing(vmm::Guest& guest, OutgoingOptions options, Progress progress, Done done)
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
    std::lock_guard lock(mutex_);
    if (state_ != SourceState::Copying && state_ != SourceState::Stopped) return;
    cancelled_ = true;
    if (control_) control_->cancel();
    for (auto& s : senders_) s->cancel();
}

vmm::Result<void> Outgoing::check() const {
    if (cancelled_) return vmm::fail("the migration was cancelled; the guest runs here");
    return {};
}

SourceState Outgoing::state() const {
    std::lock_guard lock(mutex_);
    return state_;
}

void Outgoing::run() {
    started_ = Clock::now();
    last_report_ = started_ - std::chrono::seconds(1);
    auto r = connect();
    if (r) r = copy();
    if (r) r = stop_and_send();
    if (r) r = commit();
    if (!r) {
        error_ = r.error();
        (void)event(SourceEvent::Failed);
        // The guest goes on first. Once Commit may be on its way nothing may follow it but questions.
        if (state() == SourceState::Resumed && control_)
            (void)send(*control_, Record::Abort, encode_abort({error_.what, error_.remedy}));
    }
    {
        std::lock_guard lock(mutex_);
        if (control_) control_->cancel();
        for (auto& s : senders_) s->cancel();
    }
    stats_.total_ms = static_cast<std::uint64_t>(seconds_since(started_) * 1e3);
    stats_.throttle = precopy_.throttle();
    stats_.note = precopy_.reason();
    const Outcome outcome{state(), error_, cancelled_, stats_};
    boost::asio::post(guest_.io(), [done = done_, outcome] { done(outcome); });
}

SourceAction Outgoing::event(SourceEvent e) {
    SourceStep s;
    {
        std::lock_guard lock(mutex_);
        // cancel() and the commit point exclude each other here.
        if (e == SourceEvent::ReadyCame && cancelled_) e = SourceEvent::Failed;
        s = step(state_, e);
        state_ = s.next;
    }
    if (s.action == SourceAction::ResumeGuest) {
        if (auto r = on_guest(guest_, [this] { return resume_guest(); }); !r)
            spdlog::error("{}: cannot resume: {}", guest_.name(), r.error().what);
    } else if (s.action == SourceAction::Ask) {
        ask();
    }
    return s.action;
}

vmm::Result<void> Outgoing::connect() {
    for (unsigned i = 0; i <= options_.data_channels; ++i) {
        if (auto r = check(); !r) return r;
        auto c = from_peer(transport::dial(options_.host, options_.port, options_.channel));
        if (!c) return tl::unexpected(c.error());
        const HelloRecord h{kStreamVersion, i, options_.data_channels, options_.token};
        if (auto r = from_peer(send(**c, Record::Hello, encode_hello(h))); !r) return r;
        std::lock_guard lock(mutex_);
        if (i == 0)
            control_ = std::move(*c);
        else
            senders_.push_back(std::make_unique<PageSender>(std::move(*c), options_.compress,
                                                            options_.bandwidth / options_.data_channels));
    }
    // When all have knocked: the peer's threads start beside each other.
    if (auto r = from_peer(expect(*control_, Record::Welcome)); !r) return tl::unexpected(r.error());
    for (auto& s : senders_)
        if (auto r = from_peer(expect(s->channel(), Record::Welcome)); !r) return tl::unexpected(r.error());
    return {};
}

// The dirty set: stage-2 log and device models' writes. What was sent and not acknowledged is in no set: a failed round
// ends the migration, the source's memory is the truth, and another attempt starts with every page.
vmm::Result<std::uint64_t> Outgoing::collect() {
    auto n = guest_.machine().harvest(dirty_);
    guest_.memory().take_device_writes(dirty_);
    return n;
}

// The first round: what was never used is zero on both sides. Device models' writes have the kernel and the ramdisk among them
// that were booted from.
vmm::Result<void> Outgoing::everything() {
    guest_.memory().take_device_writes(dirty_);
    guest_.memory().add_ever_written(dirty_);
    auto r = guest_.machine().accessed(dirty_);
    first_round_bytes_ = static_cast<double>(dirty_.count()) * kPageBytes;
    return r;
}

void Outgoing::send_in_parallel(const std::function<void(unsigned)>& body, std::uint64_t pages) {
    std::mutex m;
    std::condition_variable finished;
    std::size_t left = senders_.size();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < senders_.size(); ++i)
        threads.emplace_back([&, i] {
            body(i);
            std::lock_guard lock(m);
            --left;
            finished.notify_one();
        });
    for (std::unique_lock lock(m);
         !finished.wait_for(lock, std::chrono::milliseconds(100), [&] { return left == 0; });)
        report(round_ == 0 ? "first round" : "copying", pages);
    for (auto& t : threads) t.join();
}

vmm::Result<RoundStats> Outgoing::send_round(bool final) {
    const auto start = Clock::now();
    std::vector<std::uint64_t> words(dirty_.words());
    RoundStats s;
    dirty_.drain([&](std::uint64_t w, std::uint64_t bits) {
        words[w] = bits;
        s.pages += static_cast<std::uint64_t>(std::popcount(bits));
    });
    std::uint64_t zero_before = 0, bytes_before = 0;
    for (auto& w : senders_) zero_before += w->counts().zero, bytes_before += w->bytes_sent();
    std::vector<transport::Result<void>> results(senders_.size());
    const auto body = [&](unsigned i) {
        results[i] =
            senders_[i]->send(guest_.memory(), words, i, static_cast<unsigned>(senders_.size()), round_);
        if (!results[i]) control_->cancel();  // or the wait for the acknowledgement would outlive the channel
    };
    if (final && s.pages < kAlone) {
        for (unsigned i = 0; i < senders_.size(); ++i) body(i);
    } else {
        send_in_parallel(body, s.pages);
    }
    for (auto& r : results)
        if (auto sent = from_peer(r); !sent) return tl::unexpected(sent.error());
    for (auto& w : senders_) s.zero += w->counts().zero, s.wire_bytes += w->bytes_sent();
    s.zero -= zero_before;
    s.wire_bytes -= bytes_before;
    if (!final) {
        // However slow the link: what it still holds must arrive first, and the guest runs meanwhile.
        auto ack = from_peer(expect(*control_, Record::RoundAck, transport::Patience::Idle));
        if (!ack) return tl::unexpected(ack.error());
        auto round = from_peer(decode_round(*ack));
        if (!round) return tl::unexpected(round.error());
        if (*round != round_) return vmm::fail("the peer acknowledged another round");
    }
    ++round_;
    s.seconds = seconds_since(start);
    stats_.wire_bytes += s.wire_bytes;
    return s;
}

vmm::Result<void> Outgoing::copy() {
    auto on = on_guest(guest_, [this]() -> vmm::Result<void> {
        if (guest_.state() != vmm::GuestState::Running) return vmm::fail(guest_.name() + " is not running");
        auto mode = options_.log;
        if (mode == abi::DirtyLogMode::Hardware && !guest_.machine().has_hardware_dirty_log())
            mode = abi::DirtyLogMode::WriteProtect;
        if (auto r = guest_.machine().dirty_log(mode); !r) return r;
        logging_ = true;
        guest_.set_state(vmm::GuestState::Migrating);
        return everything();
    });
    if (!on) return on;
    rehearse();
    for (;;) {
        if (auto r = check(); !r) return r;
        auto s = send_round(false);
        if (!s) return tl::unexpected(s.error());
        auto n = on_guest(guest_, [this] { return collect(); });
        if (!n) return tl::unexpected(n.error());
        s->dirty_after = dirty_.count();
        stats_.rounds.push_back(*s);
        const Verdict v =
            precopy_.after_round({s->pages, s->zero, s->wire_bytes, Seconds(s->seconds), s->dirty_after});
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

void Outgoing::report(const char* phase, std::uint64_t remaining) {
    if (!progress_ || seconds_since(last_report_) < 0.1) return;
    const double since = seconds_since(last_report_);
    last_report_ = Clock::now();
    std::uint64_t sent = 0;
    for (auto& w : senders_) sent += w->bytes_sent();
    const double elapsed = seconds_since(started_),
                 rate = elapsed > 0 ? static_cast<double>(sent) / elapsed : 0;
    const double left = round_ == 0 ? std::max(0.0, first_round_bytes_ - static_cast<double>(sent))
                                    : static_cast<double>(remaining) * 4096;
    // Each round leaves dirty/bandwidth of itself to the next: a geometric series.
    const double again = rate > 0 ? std::min(0.9, precopy_.dirty_bytes_per_second() / rate) : 0;
    const double eta = rate > 0 ? left / rate / (1 - again) : 0;
    last_percent_ = std::max(last_percent_, std::min(99.0, 100 * elapsed / std::max(0.001, elapsed + eta)));
    nlohmann::json j{{"phase", phase},
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
