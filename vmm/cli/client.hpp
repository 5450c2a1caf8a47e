// Talking to proad, and how `proa` ends: exit codes scripts can rely on.
#pragma once
#include <string>

#include "vmm/json_lines.hpp"

namespace proa::vmm::cli {

// 0 done, 1 failed, 2 wrong usage, 3 no such guest, 4 refused before anything was changed, 5 cancelled, 6 in doubt.
enum Exit : int { kOk = 0, kFailed = 1, kUsage = 2, kNotFound = 3, kRefused = 4, kCancelled = 5, kInDoubt = 6 };

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

int console(const Context& c, const std::string& guest);  // until Ctrl-] or the guest ends
int migrate(const Context& c, const Json& request, bool show_progress);
void print_list(const Json& guests, double cntfrq);
void print_vcpus(const Json& guests, double cntfrq);
const char* completion_script();

}  // namespace proa::vmm::cli
