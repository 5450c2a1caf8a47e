// Control commands: everything user space asks for through a doorbell. The one decoder of them.
#pragma once
#include "hypervisor/domain/guest.hpp"

namespace proa::hv {

void run_command(Guest& g);                      // area->command, result into it
void resume_exit(Guest& g, std::uint64_t vcpu);  // user space answered an MMIO exit
// g.lock held; false: vCPUs still run, call again.
bool destroy_guest(Guest& g);
bool abandon_guest(Guest& g);  // proa-vm is gone: the control area goes too

}  // namespace proa::hv
