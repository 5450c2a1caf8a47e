// Timers of vCPUs that aren't loaded, and the one EL2 timer (CNTHP) each pCPU has for them, for slice ends and for
// the current vCPU's emulated physical timer. The list functions want the dispatcher's lock.
#pragma once
#include "hypervisor/vcpu/vcpu.hpp"

namespace proa::hv {

void arm_timer(Vcpu& v, Pcpu& on);
void disarm_timer(Vcpu& v);
Vcpu* take_due(Pcpu& self, std::uint64_t now);  // one whose time has come, taken off the list
std::uint64_t next_timer_of(const Pcpu& self);  // no lock: a stale answer costs one early or late look

void fire_timers(Vcpu& v, std::uint64_t now);  // raises what is due in v's vGIC; no locks held
void program_timer(Pcpu& self, const Vcpu& current, std::uint64_t now);  // what is due by `now` was seen to
void program_idle_timer(Pcpu& self);

}  // namespace proa::hv
