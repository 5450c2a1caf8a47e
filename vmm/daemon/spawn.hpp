// Starts proa-vm. It inherits its guest's memory and a pipe through which it says that it serves
// commands and what of its guest it would answer to `info`; nothing else.
#pragma once
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace proa::vmm {

struct Spawned {
    int pid = 0;
    // The caller's; readable: a line of JSON when it serves commands, or its end if it ended before.
    int ready = -1;
};

// `args` begins with the program (found in PATH), to which --memfd and --ready-fd are added; its output goes to the file
// `log`. `memfd` stays the caller's.
Result<Spawned> spawn_vm(std::vector<std::string> args, int memfd, const std::string& log);

}  // namespace proa::vmm
