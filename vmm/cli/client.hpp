// Talking to proad, and how `proa` ends: exit codes scripts can rely on (`proa help exit-codes`).
#pragma once
#include <string>

#include "vmm/json_lines.hpp"

namespace proa::vmm::cli {

enum Exit : int {
    kOk = 0,
    kFailed = 1,
    kUsage = 2,
    kNotFound = 3,
    kRefused = 4,
    kCancelled = 5,
    kInDoubt = 6,
    kTimeout = 7,
    kUnreachable = 8
};
const char* exit_codes_text();

struct Context {
    std::string socket = "/run/proa/proad.sock";
    bool json = false;
};

int complain(const CallError& e);  // "proa: what" and the remedy on stderr; the exit code
// Asks proad; on success `result` holds the answer and kOk is returned.
int ask(const Context& c, const std::string& command, const Json& args, Json& result,
        const std::function<void(const Json&)>& progress = {});
// The same of one guest's proa-vm.
int ask_guest(const Context& c, const std::string& guest, const std::string& command, const Json& args,
              Json& result, const std::function<void(const Json&)>& progress = {});

void print_json(const Json& j);

}  // namespace proa::vmm::cli
