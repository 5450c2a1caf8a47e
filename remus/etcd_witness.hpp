// The witness as an etcd cluster (3.4 or later). Two keys a guest, below /proa/guests/NAME/:
//
//   holder   {"host":…,"session":…} under a lease; settled: {"host":…,"session":…,"settled":true,"term":…} without one.
//            Its create_revision is the term: etcd counts revisions over the whole cluster and never takes one back.
//   last     the same value, and never under a lease: written together with `holder` by each claim and by the first settle.
//            Its mod_revision says who claimed last, also after the lease has run out: what lets a primary take its key back
//            only if nobody had it since, and keeps a backup of an earlier protection from claiming.
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
