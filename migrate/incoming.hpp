// The destination's side: listens with a one-time token, applies pages as they come, loads state, starts on Commit.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "migrate/stream.hpp"
#include "migrate/switchover.hpp"
#include "vmm/process/guest_process.hpp"

namespace proa::migrate {

class Incoming {
  public:
    struct Outcome {
        TargetState state;
        vmm::Error error;
    };
    using Done = std::function<void(const Outcome&)>;  // on the guest's thread, once

    static vmm::Result<std::unique_ptr<Incoming>> listen(vmm::GuestProcess& guest, const Token& token,
                                                         const transport::ChannelOptions& options, Done done);
    ~Incoming();
    std::uint16_t port() const { return listener_->port(); }
    // The source's host asks: Started, or a promise that it never will. Guest's thread.
    TargetState asked();
    // Runs after Commit, before the guest: the durable mark that it started here.
    void before_start(std::function<void()> f) { before_start_ = std::move(f); }

  private:
    Incoming(vmm::GuestProcess& guest, const Token& token, Done done)
        : guest_(guest), token_(token), done_(std::move(done)) {}
    void serve(std::unique_ptr<transport::Channel> c);
    transport::Result<HelloRecord> greet(transport::Channel& c);
    void serve_data(transport::Channel& c);
    void serve_control(transport::Channel& c);
    transport::Result<void> load_and_commit(transport::Channel& c);
    transport::Result<void> wait_round(std::uint32_t round);
    void round_ended(std::uint32_t round);
    void failed(const transport::Error& e);
    TargetAction event(TargetEvent e);

    vmm::GuestProcess& guest_;
    Token token_;
    Done done_;
    std::function<void()> before_start_;
    std::mutex mutex_;
    std::condition_variable changed_;
    TargetState state_ = TargetState::Receiving;
    std::uint32_t channels_ = 0, joined_ = 0;  // data channels expected, and a bit per channel that came
    std::vector<std::uint32_t> ended_;         // per round: channels that sent RoundEnd
    transport::Channel* control_ = nullptr;
    std::vector<transport::Channel*> live_;
    bool reported_ = false;
    std::unique_ptr<transport::Listener> listener_;  // last: its threads use all of the above
};

}  // namespace proa::migrate
