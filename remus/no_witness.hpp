// No witness: every claim is granted to whoever asks. For tests, and for pairs whose operator has said --unsafe.
//
// What it can't promise is the point of a witness: when the hosts lose sight of each other, the backup takes over although
// the primary may be alive, and both run the guest, answer its clients and write to their disks. A lease is always renewed,
// so that the primary's fence never fires and a cut-off primary goes on. Terms come from the host's clock: they rise from
// claim to claim on one host, but between hosts only as far as their clocks agree.
#pragma once
#include <mutex>

#include "remus/witness.hpp"

namespace proa::remus {

class NoWitness final : public Witness {
  public:
    vmm::Result<std::optional<Holder>> look(const std::string& guest) override;
    vmm::Result<Claim> claim(const std::string& guest, const std::string& host, const std::string& session,
                             std::chrono::milliseconds ttl, std::uint64_t after) override;
    vmm::Result<Answer> renew(const Held& h) override;
    vmm::Result<Answer> settle(const std::string& guest, const std::string& host, const std::string& session,
                               const Held& h) override;
    vmm::Result<Answer> release(const std::string& guest, const std::string& session) override;

  private:
    std::mutex mutex_;
    std::uint64_t last_ = 0;
};

}  // namespace proa::remus
