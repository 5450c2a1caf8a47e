// What `proa list`, `vcpu-list`, `info` and `top` show for given facts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cli/print.hpp"

namespace proa::vmm::cli {
namespace {

using ::testing::HasSubstr;

Json guest(const char* name, const char* state, std::initializer_list<const char*> vcpus,
           std::uint64_t ticks = 0) {
    Json g{{"name", name},          {"slot", 3},      {"memory_mib", 512},
           {"vcpus", vcpus.size()}, {"state", state}, {"run_ticks", ticks}};
    g["vcpu_list"] = Json::array();
    unsigned i = 0;
    for (const char* v : vcpus) {
        g["vcpu_list"].push_back({{"vcpu", i},
                                  {"pcpu", i},
                                  {"state", v},
                                  {"run_ticks", ticks / vcpus.size()},
                                  {"affinity", i == 0 ? 1u : ~0u}});
        ++i;
    }
    return g;
}

TEST(Print, StateLettersAreXls) {
    EXPECT_EQ(state_letters(guest("g", "running", {"running", "blocked"})), "r-----");
    EXPECT_EQ(state_letters(guest("g", "running", {"blocked", "off"})), "-b----");
    EXPECT_EQ(state_letters(guest("g", "running", {"runnable", "blocked"})), "------") << "waits for a CPU";
    EXPECT_EQ(state_letters(guest("g", "migrating", {"running"})), "r-----");
    EXPECT_EQ(state_letters(guest("g", "paused", {"paused"})), "--p---");
    EXPECT_EQ(state_letters(guest("g", "standby", {"paused"})), "--w---");
    EXPECT_EQ(state_letters(guest("g", "stopped", {"off"})), "---s--");
    EXPECT_EQ(state_letters(guest("g", "crashed", {"off"})), "----c-");
    EXPECT_EQ(state_letters({{"name", "g"}, {"state", "unresponsive"}}), "-----d");
}

TEST(Print, AListHasXlsColumns) {
    const std::string s =
        format_list(Json::array({guest("web", "running", {"running", "running"}, 2500)}), 1000);
    EXPECT_EQ(s,
              "Name                                        ID   Mem VCPUs     State    Time(s)\n"
              "web                                          3   512     2     r-----       2.5\n");
    EXPECT_THAT(format_list(Json::array({{{"name", "hung"}, {"slot", 1}, {"state", "unresponsive"}}}), 0),
                HasSubstr("-----d"))
        << "facts that are missing are no crash";
}

TEST(Print, VcpusShowWhereTheyMayRun) {
    Json g = guest("web", "running", {"running", "blocked"});
    g["pcpus"] = 4;
    const std::string s = format_vcpus(Json::array({g}), 1000);
    EXPECT_THAT(s, HasSubstr("running       0.0  0\n"));
    EXPECT_THAT(s, HasSubstr("blocked       0.0  all\n"));
    EXPECT_EQ(format_cpu_list(0b101101, 8), "0,2-3,5");
    EXPECT_EQ(format_cpu_list(~0ull, 64), "all");
    EXPECT_EQ(format_cpu_list(0b1110, 4), "1-3");
}

TEST(Print, FactsAreOneALineAndListsOneAnItem) {
    const std::string s = format_facts({{"name", "web"},
                                        {"disks", Json::array({{{"path", "/d"}, {"read_only", true}}})},
                                        {"exits", {{"hvc", 4}}},
                                        {"vifs", Json::array()}});
    EXPECT_EQ(s,
              "disks[0]         path=/d  read_only=true\n"
              "exits            hvc=4\n"
              "name             web\n"
              "vifs             -\n");
}

TEST(Print, UsageIsWhatChangedBetweenTwoSamples) {
    const auto sample = [](double uptime, std::uint64_t busy, Json guests) {
        return Json{{"host",
                     {{"cntfrq", 1000.0},
                      {"uptime_s", uptime},
                      {"cpus", Json::array({{{"busy_ticks", busy}}, {{"busy_ticks", 0}}})}}},
                    {"guests", guests}};
    };
    const Json before = sample(10, 5000, Json::array({guest("web", "running", {"running"}, 1000)}));
    const Json now = sample(
        12, 6000,
        Json::array({guest("web", "running", {"running"}, 2500), guest("new", "running", {"running"}, 900)}));
    const Json u = usage(before, now);
    EXPECT_DOUBLE_EQ(u["guests"][0]["cpu_percent"], 75.0) << "1.5 s of the 2 between the samples";
    EXPECT_DOUBLE_EQ(u["guests"][0]["vcpu_list"][0]["cpu_percent"], 75.0);
    EXPECT_DOUBLE_EQ(u["guests"][1]["cpu_percent"], 0.0) << "it came meanwhile";
    EXPECT_DOUBLE_EQ(u["busy_percent"], 25.0) << "of two CPUs";
    EXPECT_THAT(format_usage(u, false), HasSubstr("75.0"));
    EXPECT_THAT(format_usage(u, true), HasSubstr("vCPU 0   on CPU 0"));
    EXPECT_DOUBLE_EQ(usage(now, before)["guests"][0]["cpu_percent"], 0.0)
        << "time that went backwards: a reboot";
}

}  // namespace
}  // namespace proa::vmm::cli
