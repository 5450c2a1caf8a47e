// proad's part in migration: the `migrate` command of the CLI, and what other hosts' daemons may ask of this one.
#pragma once
#include <memory>

#include "migrate/peer_call.hpp"
#include "transport/channel.hpp"
#include "vmm/daemon/daemon.hpp"

namespace proa::migrate {

class PeerService {
  public:
    static vmm::Result<std::unique_ptr<PeerService>> start(vmm::Daemon& daemon);
    ~PeerService();

  private:
    explicit PeerService(vmm::Daemon& d) : daemon_(d) {}
    void migrate(const Json& args, const vmm::Reply& r);
    void serve(transport::Channel& c);
    void answer(const Json& request, std::function<void(Json)> done);  // on the daemon's thread
    void prepare(const Json& request, std::function<void(Json)> done);
    void outcome(const Json& request, std::function<void(Json)> done);

    vmm::Daemon& daemon_;
    std::unique_ptr<transport::Listener> listener_;
};

}  // namespace proa::migrate
