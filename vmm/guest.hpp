// What migration and replication see of a running guest: its parts, and the few moves they may make with it. Everything
// but memory(), io(), begin_memory() and has_memory() is for the guest's own thread.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "vmm/device.hpp"
#include "vmm/disk.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/machine.hpp"
#include "vmm/output.hpp"

namespace proa::vmm {

// Switching: frozen, and a peer may be starting it (no command but destroy touches it then).
// InDoubt: stopped at the moment of its migration's commit; whether it runs at the destination isn't known.
// Standby: holds a protected guest's checkpoints and runs only if its primary is lost.
enum class GuestState : std::uint8_t {
    Created,
    Running,
    Paused,
    Migrating,
    Switching,
    Incoming,
    Standby,
    InDoubt,
    Stopped,
    Crashed
};
const char* name_of(GuestState s);

class Guest {
  public:
    virtual ~Guest() = default;
    virtual boost::asio::io_context& io() = 0;
    virtual const std::string& name() const = 0;
    virtual Machine& machine() = 0;
    virtual GuestMemory& memory() = 0;
    virtual const std::vector<Device*>& devices() const = 0;
    virtual GuestState state() const = 0;
    virtual void set_state(GuestState s) = 0;

    // Stops vCPUs, serves what they left behind, quiesces devices: memory, devices and machine agree from here on.
    virtual Result<void> freeze() = 0;
    // Undoes freeze() at the source: devices and vCPUs go on.
    virtual Result<void> thaw() = 0;
    virtual Result<void> start_incoming() = 0;  // vCPUs run, devices resume (and announce)
    // An incoming guest's memory is made present beside everything else, from begin_memory() on; it could run, as far as that
    // goes, when it has its memory: true as soon as it has, false if it hasn't within this time. Its pages may come in at any
    // time. Not for the guest's own thread.
    virtual void begin_memory() {}
    virtual Result<bool> has_memory(std::chrono::milliseconds /*within*/) { return true; }
    Result<void> wait_for_memory() {
        for (;;) {
            const auto r = has_memory(std::chrono::seconds(1));
            if (!r) return tl::unexpected(r.error());
            if (*r) return {};
        }
    }

    // Takes in what the machine has to say by now (MachineEvents), on the guest's thread, before it returns.
    virtual void hear_events() {}

    // For replication; a guest without them can't be protected.
    virtual Output* output() { return nullptr; }
    virtual std::vector<Disk*> disks() { return {}; }  // the writable ones, in the order of its config
    // A checkpoint's pause: as freeze() and thaw(), but the guest's state doesn't change and its clock goes on.
    virtual Result<void> pause_briefly() { return fail("this guest can't be checkpointed"); }
    virtual Result<void> go_on() { return fail("this guest can't be checkpointed"); }
};

}  // namespace proa::vmm
