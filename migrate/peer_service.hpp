// proad's part in migration: the `migrate` command of the CLI, and what other hosts' daemons may ask of this one.
#pragma once
#include <memory>

#include "migrate/peer_call.hpp"
#include "migrate/peer_requests.hpp"
#include "transport/channel.hpp"
#include "vmm/daemon/daemon.hpp"

namespace proa::migrate {

class PeerService {
  public:
    static vmm::Result<std::unique_ptr<PeerService>> start(vmm::Daemon& daemon);
    ~PeerService();
    // Another service's part of what peers may ask. Before the daemon runs, or on its thread.
    void on_request(const std::string& command, PeerHandler handler) {
        requests_.on(command, std::move(handler));
    }

  private:
    explicit PeerService(vmm::Daemon& d) : daemon_(d) {}
    void migrate(const Json& args, const vmm::Reply& r);
    void serve(transport::Channel& c);
    void prepare(const Json& request, PeerReply done);
    void outcome(const Json& request, PeerReply done);

    vmm::Daemon& daemon_;
    PeerRequests requests_;
    std::unique_ptr<transport::Listener> listener_;
};

}  // namespace proa::migrate
