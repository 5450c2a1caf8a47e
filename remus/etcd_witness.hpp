// The witness as an etcd cluster (3.4 or later). Two keys a guest, below /proa/guests/NAME/:
//
//   holder   {"host":…,"session":…} under a lease: a new beginning, whose revision is the term (etcd counts revisions over the
//            whole cluster and never takes one back); with "term":… a backup's claim that continues one; with "settled":true,
//            and no lease, whoever has the guest for good.
//   last     the same value, never under a lease: written by each new beginning and by whoever settles it. It says, also after
//            leases have run out and keys were released, which term is the last one and whether it is closed.
//
// Each change is one transaction that compares these revisions, so that it is right whatever has happened since they were read.
#pragma once
#include "remus/etcd_client.hpp"
#include "remus/witness.hpp"

namespace proa::remus {

// "etcd://host:port[,host:port...]", or "none" (no_witness.hpp: the caller has made sure that its user knows). `timeout` bounds
// each call as a whole; attempt_timeout() (lease_keeper.hpp) says what suits a lease.
vmm::Result<std::unique_ptr<Witness>> make_witness(const std::string& spec, std::chrono::milliseconds timeout);

class EtcdWitness final : public Witness {
  public:
    EtcdWitness(std::unique_ptr<EtcdEndpoints> endpoints, std::chrono::milliseconds timeout)
        : endpoints_(std::move(endpoints)), timeout_(timeout) {}

    vmm::Result<std::optional<Holder>> look(const std::string& guest) override;
    vmm::Result<Claim> claim(const std::string& guest, const std::string& host, const std::string& session,
                             std::chrono::milliseconds ttl, std::uint64_t after) override;
    vmm::Result<Answer> renew(const Held& h) override;
    vmm::Result<Answer> settle(const std::string& guest, const std::string& host, const std::string& session,
                               const Held& h) override;
    vmm::Result<Answer> release(const std::string& guest, const std::string& session) override;

  private:
    std::unique_ptr<EtcdEndpoints> endpoints_;
    const std::chrono::milliseconds timeout_;
};

}  // namespace proa::remus
