// proa-vm's migration commands: migrate-describe, migrate-out, migrate-cancel, migrate-resolve (source); migrate-in,
// migrate-asked (destination).
#pragma once
#include <memory>
#include <string>

#include "migrate/incoming.hpp"
#include "migrate/outgoing.hpp"

namespace proa::migrate {

class GuestService {
  public:
    // `sessions`: directory in which a started incoming session leaves its mark.
    GuestService(vmm::GuestProcess& guest, std::string sessions);
    ~GuestService();

  private:
    void describe(const vmm::Reply& r);
    void out(const vmm::Json& args, const vmm::Reply& r);
    void in(const vmm::Json& args, const vmm::Reply& r);
    vmm::GuestProcess& guest_;
    std::string sessions_;
    std::unique_ptr<Outgoing> outgoing_;
    std::unique_ptr<Incoming> incoming_;
};

vmm::Json to_json(const MigrationStats& s);
transport::ChannelOptions channel_options(const vmm::Json& args);  // "keys" (directory) or "plaintext": true

// One question to the daemon on `host`; its answer's JSON.
transport::Result<vmm::Json> ask_peer(const std::string& host, std::uint16_t port,
                                      const transport::ChannelOptions& o, const vmm::Json& request);

}  // namespace proa::migrate
