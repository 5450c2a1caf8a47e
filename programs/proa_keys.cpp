// proa-keys: makes what TLS between hosts needs. `proa keys init` starts it: it is the one verb that computes with keys, and
// proa itself starts in a third of the time without the library for that.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "transport/keys.hpp"

int main(int argc, char** argv) {
    std::string directory = "keys";
    std::vector<std::string> hosts;
    CLI::App app("proa-keys: TLS credentials of hosts; proa keys init --help says more");
    app.add_option("host", hosts, "names or addresses, as others dial them")->required();
    app.add_option("--dir", directory, "where to")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (auto k = proa::transport::init_keys(directory, hosts); !k) {
        std::fprintf(stderr, "proa: %s\n", k.error().what.c_str());
        if (!k.error().remedy.empty()) std::fprintf(stderr, "  %s\n", k.error().remedy.c_str());
        return 1;
    }
    for (const auto& h : hosts)
        std::printf("%s/%s: copy to /etc/proa/keys on %s\n", directory.c_str(), h.c_str(), h.c_str());
    return 0;
}
