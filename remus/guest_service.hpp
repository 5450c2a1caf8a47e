// proa-vm's part in high availability: protect-out, unprotect, failover, protect-status (a running guest), protect-in (a
// standby). Chooses what a protected guest's end means: who is told, and which key goes.
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>

#include "migrate/peer_call.hpp"
#include "remus/backup.hpp"
#include "remus/primary.hpp"
#include "vmm/process/guest_process.hpp"

namespace proa::remus {

using vmm::Json;

class GuestService {
  public:
    explicit GuestService(vmm::GuestProcess& guest);
    // Not on the guest's thread, which must go on running.
    ~GuestService();

  private:
    void protect_out(const Json& a, const vmm::Reply& r);
    // `resume`: tries to protect it again, as it was protected before, should this fail.
    void ask_for_standby(const Json& a, std::shared_ptr<std::optional<vmm::Reply>> reply, bool resume);
    void start_primary(const Json& a, const std::string& token, std::uint16_t port,
                       std::shared_ptr<std::optional<vmm::Reply>> reply);
    void primary_changed(PrimaryState s, const vmm::Error& why);
    void protect_in(const Json& a, const vmm::Reply& r);
    void backup_changed(BackupState s, const vmm::Error& why);
    void unprotect(const vmm::Reply& r);
    void failover(const vmm::Reply& r);
    Json status() const;
    void protect_again();  // auto_reprotect: from now on, now and then, until it works
    void answer(const vmm::Result<void>& r, const char* code = "failed");
    bool over() const;  // no primary, or one that has come to an end

    vmm::GuestProcess& guest_;
    const std::string session_;  // this copy of the guest, as the witness knows it
    std::shared_ptr<bool> gone_ = std::make_shared<bool>(false);  // on the guest's thread: callbacks are void
    std::shared_ptr<Witness> witness_;
    bool holds_key_ = false;  // settled: to be released when the guest ends
    bool asking_ = false;     // a standby is being asked for
    Json options_;            // of the last protect-out
    Json last_status_;        // of a protection that has ended
    std::shared_ptr<std::optional<vmm::Reply>> reply_;
    std::optional<vmm::Reply> handing_over_, unprotecting_;
    boost::asio::steady_timer again_;
    std::unique_ptr<Primary> primary_;
    std::unique_ptr<Backup> backup_;
};

}  // namespace proa::remus
