// The source's side of one live migration: a thread beside the guest's that copies memory while the guest runs, stops
// it when precopy.hpp says so, and follows switchover.hpp to the end.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "migrate/precopy.hpp"
#include "migrate/stream.hpp"
#include "migrate/switchover.hpp"
#include "vmm/process/guest_process.hpp"

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
    // Asks the destination's host whether session `token` started: Started or Never; nothing if it can't be reached.
    std::function<std::optional<SourceEvent>()> ask;
};

struct RoundStats {
    std::uint64_t pages = 0, zero = 0, wire_bytes = 0, dirty_after = 0;
    double seconds = 0;
};
struct MigrationStats {
    std::vector<RoundStats> rounds;
    std::uint64_t wire_bytes = 0, total_ms = 0;
    double downtime_ms = 0;  // source: vCPUs stopped -> Started came
    unsigned throttle = 0;
    std::string note;
};

class Outgoing {
  public:
    struct Outcome {
        SourceState state;
        vmm::Error error;  // unless Done
        bool cancelled = false;
        MigrationStats stats;
    };
    // Both called on the guest's thread.
    using Progress = std::function<void(const vmm::Json&)>;
    using Done = std::function<void(const Outcome&)>;

    Outgoing(vmm::GuestProcess& guest, OutgoingOptions options, Progress progress, Done done);
    ~Outgoing();
    void cancel();   // any thread; too late once committed
    bool resolve();  // InDoubt: asks again; false if there is still no answer

  private:
    struct Worker;
    void run();
    vmm::Result<void> connect();
    vmm::Result<void> copy();
    vmm::Result<RoundStats> send_round(dirtylog::Bitmap& pages, bool final);
    vmm::Result<void> stop_and_send();
    vmm::Result<void> commit();
    void event(SourceEvent e);
    void act(SourceAction a);
    void report(const char* phase, std::uint64_t remaining_pages);
    vmm::Result<std::uint64_t> collect();
    vmm::Result<void> check() const;

    vmm::GuestProcess& guest_;
    OutgoingOptions options_;
    Progress progress_;
    Done done_;
    SourceState state_ = SourceState::Copying;
    Precopy precopy_;
    Eta eta_;
    std::unique_ptr<transport::Channel> control_;
    std::vector<std::unique_ptr<Worker>> workers_;
    dirtylog::Bitmap dirty_;
    std::uint32_t round_ = 0;
    double last_percent_ = 0;
    std::chrono::steady_clock::time_point started_, stopped_, last_report_;
    MigrationStats stats_;
    vmm::Error error_;
    std::mutex mutex_;  // over control_ and workers_ against cancel()
    std::atomic<bool> cancelled_{false};
    std::thread thread_;
};

}  // namespace proa::migrate
