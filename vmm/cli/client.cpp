#include "vmm/cli/client.hpp"

#include <cstdio>

namespace proa::vmm::cli {
namespace {

constexpr struct {
    const char* code;
    Exit exit;
} kExits[] = {
    {"not-found", kNotFound}, {"refused", kRefused}, {"cancelled", kCancelled},     {"in-doubt", kInDoubt},
    {"invalid", kUsage},      {"timeout", kTimeout}, {"unreachable", kUnreachable},
};

}  // namespace

const char* exit_codes_text() {
    return R"(proa and migrate end with one of these codes; they don't change between versions.

  0  done
  1  failed: the message says what and why; what was begun has been undone
  2  wrong usage, or a wrong configuration (the message names file and line)
  3  no guest of that name on this host
  4  refused: the guest or the host is in the wrong state for it; nothing was changed
  5  cancelled; a guest that was on its way stays where it was
  6  in doubt: the link was lost at the moment of commit; the guest is paused here (proa migrate --resolve)
  7  no answer in time
  8  proad cannot be reached

A command that a signal ends has the shell's code for it (130 after Ctrl-C).
)";
}

int complain(const CallError& e) {
    std::fprintf(stderr, "proa: %s\n", e.error.what.c_str());
    if (!e.error.remedy.empty()) std::fprintf(stderr, "  %s\n", e.error.remedy.c_str());
    for (const auto& row : kExits)
        if (e.code == row.code) return row.exit;
    return kFailed;
}

int ask(const Context& c, const std::string& command, const Json& args, Json& result,
        const std::function<void(const Json&)>& progress) {
    auto r = call(c.socket, command, args, progress);
    if (!r) return complain(r.error());
    result = std::move(*r);
    return kOk;
}

int ask_guest(const Context& c, const std::string& guest, const std::string& command, const Json& args,
              Json& result, const std::function<void(const Json&)>& progress) {
    return ask(c, "guest", {{"guest", guest}, {"cmd", command}, {"args", args}}, result, progress);
}

void print_json(const Json& j) {
    std::printf("%s\n", j.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    std::fflush(stdout);
}

}  // namespace proa::vmm::cli
