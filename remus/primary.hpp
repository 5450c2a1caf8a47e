// The primary's side of a protected guest: copies memory while the guest runs, then checkpoint after checkpoint, and follows
// protection.hpp to the end. One engine thread decides everything; others (the fence, heartbeats, commands) leave it events.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "migrate/on_guest.hpp"
#include "remus/checkpoint_stats.hpp"
#include "remus/disk_log.hpp"
#include "remus/heart.hpp"
#include "remus/held_image.hpp"
#include "remus/lease_keeper.hpp"
#include "remus/pacing.hpp"
#include "remus/pages.hpp"
#include "remus/protection.hpp"
#include "remus/records.hpp"
#include "vmm/guest.hpp"

namespace proa::remus {

struct PrimaryOptions {
    std::string host;        // the backup's
    std::uint16_t port = 0;  // of its proa-vm
    migrate::Token token{};  // what that waits for
    transport::ChannelOptions channel;
    std::string this_host;           // as the witness knows it
    std::string session;             // this copy of the guest, as the witness knows it
    std::vector<std::string> disks;  // Device::name() of those to replicate
    PacingPolicy pacing;
    DetectorPolicy detector{std::chrono::milliseconds(100),
                            20};  // of the backup: silence costs the guest's clients only
    LeaseTiming lease;
    bool buffer_network = true;  // false: output leaves at once; a failover may forget what clients have seen
    int compress = transport::Compressor::kAuto;
    std::uint64_t cache_bytes = 64u << 20;         // for deltas
    std::uint64_t disk_log_bytes = 32u << 20;      // an epoch's disk writes; over it the disk waits
    std::chrono::milliseconds witness_pause{100};  // between two questions to the witness
};

class Primary {
  public:
    // On the guest's thread. `why` is for humans; empty where the state says all.
    struct Hooks {
        std::function<void(PrimaryState, const vmm::Error& why)> changed;
        std::function<void(const nlohmann::json&)> progress;
    };
    // `guest` has checkpoints and an output. `witness` outlives this.
    Primary(vmm::Guest& guest, std::shared_ptr<Witness> witness, PrimaryOptions options, Hooks hooks);
    // Not on the guest's thread, which must go on running: gives up what can be given up in a few seconds.
    ~Primary();

    // Any thread; each returns at once, `changed` tells what came of it.
    void stop();       // unprotect
    void hand_over();  // planned failover
    void fenced();     // MachineEvents::fenced()
    PrimaryState state() const;
    void status(nlohmann::json& j) const;  // the fields of protect-status but "held_*"

  private:
    struct Snapshot;
    vmm::Result<void> run_protection();
    void run();
    vmm::Result<void> claim();
    vmm::Result<void> connect();
    vmm::Result<void> sync_disks();
    vmm::Result<void> send_written();
    vmm::Result<void> sync_memory();
    vmm::Result<void> wait_synced();
    vmm::Result<void> send_synced(const std::vector<std::uint64_t>& words);
    vmm::Result<void> checkpoints();
    vmm::Result<void> wait_for_next(std::chrono::steady_clock::time_point& due);
    vmm::Result<Snapshot> pause_and_take(bool final);
    vmm::Result<void> checkpoint(bool final);
    vmm::Result<void> send_checkpoint(Snapshot& s);
    vmm::Result<void> send_pages();
    vmm::Result<void> send_writes(Record r, const DiskWritesRecord& w);
    vmm::Result<void> wait_acknowledged(std::uint64_t epoch);
    vmm::Result<void> put(Record r, View payload);  // on the checkpoint channel, compressed where it pays
    vmm::Result<void> yielded();
    void wind_up(const vmm::Error& why);  // from an error or a stop to a final state
    void ask_witness();                   // Settling, Fenced: until it has answered
    bool dismissed();
    void backup_gone(const vmm::Error& why);
    tl::unexpected<vmm::Error> refused(const transport::Frame& f);
    PrimaryAction event(PrimaryEvent e, const vmm::Error& why = {});
    void carry_out(PrimaryAction a);
    void open_output(bool resume);
    void end_tracking();
    bool take(PrimaryEvent e);  // out of the inbox
    bool waiting(PrimaryEvent e) const;
    void post(PrimaryEvent e);  // into the inbox
    void end(const char* why);  // a Stop, and its reason
    vmm::Result<void> check();
    void report(const char* phase, double percent);
    template <class T>
    vmm::Result<T> from_peer(transport::Result<T> r);

    vmm::Guest& guest_;
    std::shared_ptr<Witness> witness_;
    PrimaryOptions options_;
    Hooks hooks_;
    vmm::Checkpointer& machine_;
    vmm::Output& output_;
    HeldImage image_;
    PageEncoder encoder_;
    Pacing pacing_;
    CheckpointStats stats_;
    transport::Compressor compressor_;
    std::vector<vmm::Disk*> disks_;
    std::vector<std::unique_ptr<DiskLog>> disk_logs_;
    std::unique_ptr<LeaseKeeper> keeper_;
    std::unique_ptr<Heart> heart_;
    std::uint64_t epoch_ = 0, acknowledged_ = 0;
    bool stopped_ = false;  // the guest stands, and not for the length of a pause
    bool machine_started_ = false;
    std::optional<PrimaryEvent> last_word_;  // of the backup
    std::chrono::steady_clock::time_point last_report_{};

    mutable std::mutex mutex_;  // the following
    std::condition_variable wake_;
    PrimaryState state_ = PrimaryState::Claiming;
    std::deque<PrimaryEvent> inbox_;
    const char* why_stopped_ = "";  // of the first Stop in the inbox
    Held held_;                     // set once, by the engine, which reads it without the lock
    std::unique_ptr<transport::Channel> data_;
    bool abandoned_ = false;  // this object ends: no more waiting for the witness
    vmm::Error error_;
    std::thread thread_;
};

// What a closed connection means depends on who closed it.
template <class T>
vmm::Result<T> Primary::from_peer(transport::Result<T> r) {
    if (r) return std::move(r).map_error([](const transport::Error&) { return vmm::Error{}; });
    if (auto c = check(); !c) return tl::unexpected(c.error());
    return vmm::fail(options_.host + ": " + r.error().what, r.error().remedy);
}

}  // namespace proa::remus
