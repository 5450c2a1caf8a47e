// Commands that read and write machine state: vCPU, GIC, time, latches. The guest must be paused and quiet.
#pragma once
#include "hypervisor/domain/guest.hpp"

namespace proa::hv {

abi::Status get_vcpu(Guest& g, abi::Command& c);
abi::Status set_vcpu(Guest& g, abi::Command& c);
abi::Status get_gic(Guest& g, abi::Command& c);
abi::Status set_gic(Guest& g, abi::Command& c);
abi::Status get_time(Guest& g, abi::Command& c);
abi::Status set_time(Guest& g, abi::Command& c);
abi::Status get_latches(Guest& g, abi::Command& c);
abi::Status set_latches(Guest& g, abi::Command& c);

}  // namespace proa::hv
