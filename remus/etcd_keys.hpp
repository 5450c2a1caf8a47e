// A guest's two keys in etcd, and the transactions on them. What they mean is in etcd_witness.hpp.
#pragma once
#include "remus/etcd_client.hpp"
#include "remus/witness.hpp"

namespace proa::remus {

struct EtcdEntry {
    Holder who;
    std::uint64_t created = 0, modified = 0, lease = 0;  // revisions; lease 0: none
};
struct GuestKeys {
    std::optional<EtcdEntry> holder, last;
};

class EtcdKeys {
  public:
    EtcdKeys(EtcdCall& call, std::string guest);

    vmm::Result<GuestKeys> read();
    // All of `changes` if all of `conditions` hold. Else what the keys are.
    struct Outcome {
        bool done = false;
        std::uint64_t revision = 0;  // etcd's, just after
        GuestKeys seen;              // if not done
    };
    vmm::Result<Outcome> change(const Json& conditions, const Json& changes);

    // Conditions. Revision 0: there is no such key.
    Json holder_created_at(std::uint64_t revision) const;
    Json holder_modified_at(std::uint64_t revision) const;
    Json last_modified_at(std::uint64_t revision) const;
    // Changes.
    Json put_holder(const Holder& h, std::uint64_t lease = 0) const;
    Json put_last(const Holder& h) const;
    Json delete_holder() const;

    static std::string name(const std::string& guest, const char* leaf);
    static std::string value(const Holder& h);

  private:
    vmm::Result<Json> transact(const Json& conditions, const Json& then, const Json& otherwise);
    vmm::Result<GuestKeys> both_of(const Json& answer) const;
    vmm::Result<std::optional<EtcdEntry>> range_of(const Json& response) const;
    vmm::Result<EtcdEntry> entry_of(const Json& kv) const;

    EtcdCall& call_;
    const std::string guest_, holder_, last_;  // keys in base64
    const Json get_both_;
};

}  // namespace proa::remus
