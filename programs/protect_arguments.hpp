// Arguments of `proa protect`.
#pragma once
#include "vmm/cli/protect.hpp"

namespace CLI {
class App;
}

namespace proa {

void add_protect(CLI::App& verb, vmm::cli::ProtectArgs& a);
int run_protect(const vmm::cli::Context& c, const vmm::cli::ProtectArgs& a);

}  // namespace proa
