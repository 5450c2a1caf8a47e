#include "vmm/cli/client.hpp"

#include <cstdio>

namespace proa::vmm::cli {

int complain(const CallError& e) {
    std::fprintf(stderr, "proa: %s\n", e.error.what.c_str());
    if (!e.error.remedy.empty()) std::fprintf(stderr, "  %s\n", e.error.remedy.c_str());
    if (e.code == "not-found") return kNotFound;
    if (e.code == "refused") return kRefused;
    if (e.code == "cancelled") return kCancelled;
    if (e.code == "in-doubt") return kInDoubt;
    return e.code == "invalid" ? kUsage : kFailed;
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

void print_list(const Json& guests, double cntfrq) {
    std::printf("%-40s %4s %6s %5s %9s %9s\n", "Name", "ID", "Mem", "VCPUs", "State", "Time(s)");
    for (const auto& g : guests)
        std::printf("%-40s %4u %6llu %5u %9s %9.1f\n", g.value("name", "").c_str(), g.value("slot", 0u),
                    static_cast<unsigned long long>(g.value("memory_mib", 0ull)), g.value("vcpus", 0u),
                    g.value("state", "").c_str(),
                    cntfrq > 0 ? static_cast<double>(g.value("run_ticks", 0ull)) / cntfrq : 0.0);
}

void print_vcpus(const Json& guests, double cntfrq) {
    std::printf("%-32s %4s %5s %5s %9s %9s  %s\n", "Name", "ID", "VCPU", "CPU", "State", "Time(s)", "Affinity");
    for (const auto& g : guests)
        for (const auto& v : g.value("vcpu_list", Json::array()))
            std::printf("%-32s %4u %5u %5u %9s %9.1f  %#llx\n", g.value("name", "").c_str(),
                        g.value("slot", 0u), v.value("vcpu", 0u), v.value("pcpu", 0u),
                        v.value("state", "").c_str(),
                        cntfrq > 0 ? static_cast<double>(v.value("run_ticks", 0ull)) / cntfrq : 0.0,
                        static_cast<unsigned long long>(v.value("affinity", 0ull)));
}

const char* completion_script() {
    return R"bash(_proa() {
    local cur=${COMP_WORDS[COMP_CWORD]} commands="create list info console pause unpause shutdown reboot destroy vcpu-list vcpu-pin dirty-log dmesg top migrate keys completion help"
    if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "$commands" -- "$cur")); return; fi
    case ${COMP_WORDS[1]} in
        create) COMPREPLY=($(compgen -f -- "$cur")) ;;
        info|console|pause|unpause|shutdown|reboot|destroy|vcpu-list|vcpu-pin|dirty-log|migrate)
            COMPREPLY=($(compgen -W "$(proa list 2>/dev/null | awk 'NR>1{print $1}')" -- "$cur")) ;;
    esac
}
complete -F _proa proa
)bash";
}

}  // namespace proa::vmm::cli
