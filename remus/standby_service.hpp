// proad's part in high availability: `proa protect`, `unprotect`, `failover`, `protect --status` for this host's guests, and
// the standby that another host's primary asks for. What protects is in the guests' own processes: a proad that ends
// disturbs no guest that is protected.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "migrate/peer_service.hpp"
#include "remus/standby_request.hpp"

namespace proa::remus {

class StandbyService {
  public:
    // Before the daemon's io_context runs. Refuses options that don't fit together; makes the directory of replicas' states.
    static vmm::Result<std::unique_ptr<StandbyService>> start(vmm::Daemon& daemon, migrate::PeerService& peers);

  private:
    explicit StandbyService(vmm::Daemon& d) : daemon_(d) {}
    bool has_guest(const std::string& name, const vmm::Reply& r) const;
    void protect(const vmm::Json& args, const vmm::Reply& r);
    // Until the protection that was asked for has ended or its proa-vm agrees.
    void give_up(const std::string& name, std::shared_ptr<const bool> over);
    void forward(const char* command, const vmm::Json& args, const vmm::Reply& r);
    void status(const vmm::Json& args, const vmm::Reply& r);
    void standby(const vmm::Json& request, const std::string& from, migrate::PeerReply done);
    // Calls `then` once no guest of that name is here, or with why there is one still.
    using WhenFree = std::function<void(const std::optional<vmm::Error>& taken)>;
    void when_free(const std::string& name, std::chrono::steady_clock::time_point until, WhenFree then);
    // May throw for a wrong type in the request.
    void start_standby(const std::shared_ptr<const StandbyRequest>& r, const std::string& from,
                       const migrate::PeerReply& done);
    vmm::Result<void> check_host(const StandbyRequest& r);
    std::string state_directory() const { return daemon_.options().state + "/replicas"; }

    vmm::Daemon& daemon_;
};

}  // namespace proa::remus
