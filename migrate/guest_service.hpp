// proa-vm's migration commands: migrate-describe, migrate-out, migrate-cancel, migrate-resolve (source); migrate-in,
// migrate-discard (destination).
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "migrate/incoming.hpp"
#include "migrate/outgoing.hpp"
#include "migrate/peer_call.hpp"
#include "vmm/process/guest_process.hpp"

namespace proa::migrate {

// What a host must know of a running guest before it can take it: pre-flight's input.
vmm::Result<Json> describe(vmm::GuestProcess& guest);

class GuestService {
  public:
    // `sessions`: directory of session records (session.hpp).
    GuestService(vmm::GuestProcess& guest, std::string sessions);
    ~GuestService();  // during a migration: not on the guest's thread, which must go on running

  private:
    std::optional<vmm::Error> refusal() const;
    void describe(const vmm::Reply& r);
    void out(const Json& args, const vmm::Reply& r);
    void in(const Json& args, const vmm::Reply& r);
    void resolve(const vmm::Reply& r);
    void ended(const Outgoing::Outcome& o, const vmm::Reply& r);
    vmm::GuestProcess& guest_;
    std::string sessions_;
    std::shared_ptr<bool> gone_ = std::make_shared<bool>(false);  // on the guest's thread: callbacks are void
    boost::asio::steady_timer orphan_, tidy_;
    std::unique_ptr<Outgoing> outgoing_;
    std::unique_ptr<Incoming> incoming_;
};

}  // namespace proa::migrate
