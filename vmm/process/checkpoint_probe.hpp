// Checkpoints without a backup, and a fence without a lease, for tests and measurements: every page of each checkpoint is
// compared with what it was at the pause. `proa dirty-log GUEST checkpoint` and `fence`.
#pragma once
#include "vmm/guest.hpp"
#include "vmm/json_lines.hpp"

namespace proa::vmm {

// {"cycles", "wait_ms", "log"} -> {"cycles", "pages", "copies", "waits", "wrong", "pause_us", "stop_us", "hold_us"}: the
// pause, and of it until everything stood still, and for holding pages.
void probe_checkpoints(Guest& guest, const Json& args, const Reply& reply);

// {"after_ms"}; 0: no fence any more.
void probe_fence(Machine& machine, const Json& args, const Reply& reply);

}  // namespace proa::vmm
