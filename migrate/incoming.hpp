// The destination's side: listens with a one-time token, applies pages as they come, loads state, starts on Commit.
#pragma once
#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "dirtylog/bitmap.hpp"
#include "migrate/session.hpp"
#include "migrate/stream.hpp"
#include "migrate/switchover.hpp"
#include "vmm/guest.hpp"

namespace proa::migrate {

struct IncomingOptions {
    std::string sessions;  // directory of session records; this session's is there and Open
    Token token{};
    transport::ChannelOptions channel;
    std::string address;                              // to listen on; all if empty
    std::chrono::milliseconds first_contact{30'000};  // nobody came: the source has given up
};

class Incoming {
  public:
    struct Outcome {
        TargetState state;  // Started or NeverStart
        vmm::Error error;
    };
    using Done = std::function<void(const Outcome&)>;  // on the guest's thread, once

    static vmm::Result<std::unique_ptr<Incoming>> listen(vmm::Guest& guest, IncomingOptions options, Done done);
    ~Incoming();  // on the guest's thread only after Done said Started: others may wait for that thread
    std::uint16_t port() const { return listener_->port(); }
    // Gives up, unless the guest is being started already. Any thread.
    void discard(const std::string& why);

  private:
    Incoming(vmm::Guest& guest, IncomingOptions options, Done done);
    void serve(std::unique_ptr<transport::Channel> c);
    transport::Result<HelloRecord> greet(transport::Channel& c);
    transport::Result<void> receive_pages(transport::Channel& c);
    transport::Result<void> receive_state(transport::Channel& c);
    transport::Result<void> load(const vmm::MachineState& machine, const std::vector<DeviceState>& devices);
    transport::Result<void> commit(transport::Channel& c);
    transport::Result<void> wait_for_commit(transport::Channel& c);
    transport::Result<void> take_late(const transport::Frame& f);
    void take_more_late_frames(transport::Channel& c);
    void rehearse();
    transport::Result<void> wait_round(std::uint32_t round);
    transport::Result<void> round_ended(std::uint32_t round);
    bool is_final(std::uint32_t round);
    transport::Result<void> tell(Record r, View payload = {});  // on the control channel
    void failed(const transport::Error& e);
    void report(TargetState s, const vmm::Error& e);
    TargetAction event(TargetEvent e);
    bool receiving();
    bool contacted();

    vmm::Guest& guest_;
    IncomingOptions options_;
    Session session_;
    Done done_;
    boost::asio::steady_timer first_contact_;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // for handlers that outlive this
    std::mutex mutex_;  // state below; taken after sending_, never before it
    std::mutex
        sending_;  // control_, and whoever sends on it: acknowledgements come from data channels' threads
    std::condition_variable changed_;
    TargetState state_ = TargetState::Receiving;
    std::uint32_t channels_ = 0, joined_ = 0;  // data channels expected, and a bit per channel that came
    std::atomic<std::uint64_t> batches_{0};    // of pages that came, on any channel
    dirtylog::Bitmap written_{guest_.memory().pages()};  // pages that came; the others are new, and zero
    std::vector<std::uint32_t> ended_;                   // per round: channels that sent RoundEnd
    std::optional<std::uint32_t> final_round_;           // once the source has said which
    transport::Channel* control_ = nullptr;
    std::vector<transport::Channel*> live_;
    bool reported_ = false, leaving_ = false;
    std::vector<LateFrame> late_;  // the control channel's thread's; for a guest that doesn't run yet
    std::size_t late_frames_ = 0, late_bytes_ = 0;
    std::unique_ptr<transport::Listener> listener_;  // last: its threads use all of the above
};

}  // namespace proa::migrate
