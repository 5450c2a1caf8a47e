// The source's side of one live migration: a thread beside the guest's that copies memory while the guest runs, stops
// it when precopy.hpp says so, and follows switchover.hpp to the end.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "migrate/page_sender.hpp"
#include "migrate/precopy.hpp"
#include "migrate/stream.hpp"
#include "migrate/switchover.hpp"
#include "vmm/guest.hpp"

namespace proa::migrate {

struct OutgoingOptions {
    std::string host;
    std::uint16_t port = 0;
    Token token{};
    transport::ChannelOptions channel;
    unsigned data_channels = 2;
    int compress = transport::Compressor::kAuto;
    std::uint64_t bandwidth = 0;  // bytes per second; 0: no limit
    abi::DirtyLogMode log = abi::DirtyLogMode::Hardware;
    PrecopyPolicy policy;
    // Asks the destination's host whether session `token` started: Started or Never; nothing if it can't tell.
    std::function<std::optional<SourceEvent>()> ask;
    unsigned ask_tries = 5;
    std::chrono::milliseconds ask_pause{500};
};

struct RoundStats {
    std::uint64_t pages = 0, zero = 0, wire_bytes = 0, dirty_after = 0;
    double seconds = 0;
};
// Source: vCPUs stopped -> Started came, one part after the other.
struct Downtime {
    double freeze_ms = 0;      // vCPUs stopped, devices quiet, last harvest
    double state_ms = 0;       // machine and devices saved and sent
    double last_pages_ms = 0;  // sent; the destination loads the state meanwhile
    double ready_ms = 0;       // the destination has everything
    double start_ms = 0;       // it may start, and has
    double all() const { return freeze_ms + state_ms + last_pages_ms + ready_ms + start_ms; }
};
struct MigrationStats {
    std::vector<RoundStats> rounds;
    std::uint64_t wire_bytes = 0, total_ms = 0, late_frames = 0;
    Downtime downtime;
    unsigned throttle = 0;
    std::string note;
};
nlohmann::json to_json(const MigrationStats& s);

class Outgoing {
  public:
    struct Outcome {
        SourceState state;  // Done, Resumed or InDoubt
        vmm::Error error;   // unless Done
        bool cancelled = false;
        MigrationStats stats;
    };
    // All called on the guest's thread.
    using Progress = std::function<void(const nlohmann::json&)>;
    using Done = std::function<void(const Outcome&)>;
    using Resolved = std::function<void(SourceState)>;

    Outgoing(vmm::Guest& guest, OutgoingOptions options, Progress progress, Done done);
    ~Outgoing();    // not while the thread may wait for the guest's thread and this is it
    void cancel();  // any thread; without effect once committed
    // In doubt only, on the guest's thread, after Done. resolve() asks again; resume() takes a human's word for it.
    void resolve(Resolved done);
    void resume();
    SourceState state() const;

  private:
    void run();
    vmm::Result<void> connect();
    vmm::Result<void> copy();
    vmm::Result<RoundStats> send_round(bool final);
    void send_in_parallel(const std::function<void(unsigned)>& body, std::uint64_t pages);
    vmm::Result<void> stop_and_send();
    vmm::Result<void> save_state(Records& state);  // on the guest's thread
    vmm::Result<void> commit();
    void rehearse();
    Records late_frames();
    void part_over(double& ms);  // of the downtime
    SourceAction event(
        SourceEvent e);  // makes the move; resuming and asking are carried out, the rest is the caller's
    void ask();
    vmm::Result<void> resume_guest();  // on the guest's thread
    vmm::Result<void> everything();    // into dirty_; on the guest's thread
    vmm::Result<std::uint64_t> collect();
    vmm::Result<void> check() const;
    template <class T>
    vmm::Result<T> from_peer(transport::Result<T> r) const;
    void report(const char* phase, std::uint64_t remaining_pages);

    vmm::Guest& guest_;
    OutgoingOptions options_;
    Progress progress_;
    Done done_;
    Precopy precopy_;
    Eta eta_;
    dirtylog::Bitmap dirty_;
    std::uint32_t round_ = 0;
    double last_percent_ = 0, first_round_bytes_ = 0;
    std::chrono::steady_clock::time_point started_, last_report_;
    std::chrono::steady_clock::time_point part_;  // when the part of the downtime that runs began
    bool logging_ = false;                        // the dirty log is on for this move; the guest's thread
    std::vector<LateFrame> late_;                 // taken for a guest that may not start; guest's thread
    Records unsent_late_;
    MigrationStats stats_;
    vmm::Error error_;
    mutable std::mutex mutex_;  // the following, against cancel()
    SourceState state_ = SourceState::Copying;
    std::unique_ptr<transport::Channel> control_;
    std::vector<std::unique_ptr<PageSender>> senders_;
    std::atomic<bool> cancelled_{false};
    std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // for handlers that outlive this
    std::thread thread_;
};

// What a closed connection means depends on who closed it.
template <class T>
vmm::Result<T> Outgoing::from_peer(transport::Result<T> r) const {
    if (r) return std::move(r).map_error([](const transport::Error&) { return vmm::Error{}; });
    if (auto c = check(); !c) return tl::unexpected(c.error());
    return vmm::fail(r.error().what, r.error().remedy);
}

}  // namespace proa::migrate
