// `proa create`: the file is read here, checked by proad (or, --dry-run, here).
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "vmm/cli/verbs.hpp"
#include "vmm/config/guest_config.hpp"

namespace proa::vmm::cli {
namespace {

void warn(const std::vector<std::string>& warnings) {
    for (const auto& w : warnings) std::fprintf(stderr, "proa: warning: %s\n", w.c_str());
}

int dry_run(const Context& c, const std::string& text, const CreateArgs& a) {
    const auto config = parse_config(text, a.file, a.overrides);
    if (!config) return complain({"invalid", config.error()});
    warn(config->warnings);
    if (c.json)
        print_json({{"name", config->name},
                    {"memory_mib", config->memory_mib},
                    {"vcpus", config->vcpus},
                    {"warnings", config->warnings}});
    else
        std::printf("%s: %llu MiB, %u vCPUs, %zu disks, %zu network interfaces\n", config->name.c_str(),
                    static_cast<unsigned long long>(config->memory_mib), config->vcpus, config->disks.size(),
                    config->vifs.size());
    return kOk;
}

void started(const Context& c, const Json& r) {
    warn(r.value("warnings", std::vector<std::string>{}));
    if (c.json) return print_json(r);
    std::printf("%s: %s, ID %u\n", r.value("name", "").c_str(), r.value("state", "").c_str(),
                r.value("slot", 0u));
    std::fflush(stdout);
}

}  // namespace

int create(const Context& c, const CreateArgs& a) {
    std::ifstream in(a.file);
    if (!in)
        return complain(
            {"invalid", {"cannot read " + a.file + ": " + std::strerror(errno), "proa create CONFIG"}});
    const std::string text(std::istreambuf_iterator<char>(in), {});
    if (a.dry_run) return dry_run(c, text, a);
    const Json request{{"config", text}, {"file", a.file}, {"overrides", a.overrides}, {"paused", a.paused}};
    if (a.attach) return console_from_start(c, request, [&c](const Json& r) { started(c, r); });
    Json r;
    if (const int e = ask(c, "create", request, r); e != kOk) return e;
    started(c, r);
    return kOk;
}

}  // namespace proa::vmm::cli
