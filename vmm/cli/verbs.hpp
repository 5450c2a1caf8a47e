// What each verb of `proa` does, after its arguments were parsed. All return an exit code.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "vmm/cli/client.hpp"

namespace proa::vmm::cli {

struct CreateArgs {
    std::string file;
    std::vector<std::string> overrides;
    bool paused = false, attach = false, dry_run = false;
};
int create(const Context& c, const CreateArgs& a);

int list(const Context& c, const std::string& only, bool vcpus);
int info(const Context& c, const std::string& guest);  // the host's without a guest
int top(const Context& c, unsigned seconds, unsigned rounds, bool vcpus);
int dmesg(const Context& c, bool clear, bool follow);

struct PowerArgs {
    bool wait = false, force = false;
    unsigned timeout = 60;  // seconds of --wait
};
int shutdown(const Context& c, const std::string& guest, const PowerArgs& a);
int reboot(const Context& c, const std::string& guest, const PowerArgs& a);

int console(const Context& c, const std::string& guest);  // until Ctrl-] or the guest ends
// Asks for a guest (`asked` is what `create` takes) and joins its console before it runs, so that nothing it prints is
// missed however soon it ends; `started` is told what proad says of it. A signal before that leaves nothing of it (kCancelled).
int console_from_start(const Context& c, Json asked, const std::function<void(const Json&)>& started);
int migrate(const Context& c, const Json& request, bool show_progress);

}  // namespace proa::vmm::cli
