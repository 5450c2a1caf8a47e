// The commands of copy-on-write checkpoints, and what they share with the dirty log's.
#pragma once
#include "hypervisor/domain/guest.hpp"

namespace proa::hv {

abi::Status set_copy_pool(Guest& g, abi::Command& c);
abi::Status hold(Guest& g, abi::Command& c);
abi::Status release(Guest& g, abi::Command& c);

// args[0], args[1]: whole chunks of the guest's RAM, in pages.
abi::Status check_page_range(const Guest& g, abi::Command& c);

// Under mm_lock, no page held in the tables: the pool is empty, nobody waits for room in it.
void end_checkpoint(Domain& d);

}  // namespace proa::hv
