// The backup's side of a protected guest: takes memory and disks, then whole checkpoints; acknowledges each once it is verified
// and buffered; and follows protection.hpp when the primary falls silent, yields, or doesn't need it any more.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "remus/checkpoint_buffer.hpp"
#include "remus/checkpoint_stats.hpp"
#include "remus/disk_replica.hpp"
#include "remus/heart.hpp"
#include "remus/protection.hpp"
#include "remus/witness.hpp"
#include "vmm/guest.hpp"

namespace proa::remus {

struct ReplicaSpec {
    std::string name, path;  // Device::name(), and where the replica is on this host
    std::uint64_t size = 0;
};

struct BackupOptions {
    migrate::Token token{};
    transport::ChannelOptions channel;
    std::string address;             // to listen on; all if empty
    std::string this_host, session;  // as the witness knows this copy
    std::vector<ReplicaSpec> disks;
    std::string state_directory;  // journals of replicas
    DetectorPolicy detector;
    std::chrono::milliseconds claim_pause{100};       // between two claims
    std::chrono::milliseconds claim_ttl{3000};        // of the lease that is settled at once
    std::chrono::milliseconds first_contact{30'000};  // nobody came: the primary has given up
    std::uint64_t most_checkpoint_bytes = 0;          // 0: the guest's memory and a quarter
};

class Backup {
  public:
    struct Hooks {  // on the guest's thread
        std::function<void(BackupState, const vmm::Error& why)> changed;
    };
    static vmm::Result<std::unique_ptr<Backup>> listen(vmm::Guest& guest, std::shared_ptr<Witness> witness,
                                                       BackupOptions options, Hooks hooks);
    ~Backup();  // not on the guest's thread, unless `changed` has said Active or Discarded
    std::uint16_t port() const { return listener_->port(); }
    BackupState state() const;
    void status(nlohmann::json& j) const;  // the fields of protect-status

  private:
    Backup(vmm::Guest& guest, std::shared_ptr<Witness> witness, BackupOptions options, Hooks hooks);
    void serve(std::unique_ptr<transport::Channel> c);
    transport::Result<HelloRecord> greet(transport::Channel& c);
    transport::Result<void> serve_checkpoints(transport::Channel& c);
    transport::Result<void> send_hashes(transport::Channel& c);
    transport::Result<void> first_copy(const transport::Frame& f);
    transport::Result<bool> committed(transport::Channel& c);  // false: this copy takes no checkpoints any more
    transport::Result<void> try_state(const vmm::MachineState& m, const std::vector<migrate::DeviceState>& d);
    vmm::Result<void> load(const vmm::MachineState& m,
                           const std::vector<migrate::DeviceState>& d);  // on the guest's thread
    void ask_witness();                                                  // the claiming thread
    void unanswered(const vmm::Error& e);
    void claim();
    void settle();
    void say(Record r, View payload);
    // On the checkpoint channel, where its own thread and who has the last word may want to speak at once.
    transport::Result<void> answer(transport::Channel& c, Record r, View payload = {});
    BackupAction event(BackupEvent e, const vmm::Error& why = {});
    void carry_out(BackupAction a);
    void report(BackupState s, const vmm::Error& why);

    vmm::Guest& guest_;
    std::shared_ptr<Witness> witness_;
    BackupOptions options_;
    Hooks hooks_;
    CheckpointStats stats_;
    std::vector<std::unique_ptr<DiskReplica>> replicas_;
    std::unique_ptr<CheckpointBuffer> buffer_;  // of the checkpoint channel's thread
    std::mutex answering_;                      // innermost
    std::mutex committing_;  // a checkpoint is applied, or the guest is started: never both. Before mutex_
    bool has_checkpoint_ = false;
    vmm::MachineState machine_;
    std::vector<migrate::DeviceState> devices_;
    Held held_;                // of the claiming thread, as is
    bool unanswered_ = false;  // whether it has complained about that already

    mutable std::mutex mutex_;  // the following
    std::condition_variable wake_;
    BackupState state_ = BackupState::Receiving;
    std::uint64_t term_ = 0, epoch_ = 0;
    std::string primary_;
    std::uint32_t joined_ = 0;  // a bit per channel that came
    std::vector<transport::Channel*> live_;
    transport::Channel* checkpoints_ = nullptr;
    bool ending_ = false, reported_ = false;
    vmm::Error error_;
    using Clock = std::chrono::steady_clock;
    Clock::time_point last_sign_{}, suspected_{}, claimed_{}, running_{};
    std::unique_ptr<Heart> heart_;
    std::thread claiming_;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0);
    std::unique_ptr<transport::Listener> listener_;  // last: its threads use all of the above
};

}  // namespace proa::remus
