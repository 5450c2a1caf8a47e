// What a peer may ask of a backup, and what the command line's words become.
#include "remus/standby_request.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "migrate/peer_requests.hpp"

namespace proa::remus {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using vmm::Json;

constexpr const char* kConfig =
    "name='web'\nkernel='/k'\nextra='root=/dev/vda'\n"
    "disk=['phy:/dev/vg/web,xvda,w','/srv/tools.img,raw,xvdb,ro','/srv/data.img,raw,xvdc,rw']\n";

vmm::DaemonOptions here() {
    vmm::DaemonOptions o;
    o.witness = "etcd://w:2379";
    o.name = "b";
    o.listen = "10.0.0.2";
    return o;
}

Json request() {
    return {{"cmd", "standby"},
            {"guest",
             {{"name", "web"},
              {"config", kConfig},
              {"memory_mib", 64},
              {"vcpus", 1},
              {"policy", "00"},
              {"disks", Json::array()},
              {"bridges", Json::array()},
              {"files", Json::array()},
              {"stream_version", 2}}},
            {"session", std::string(64, 'a')},
            {"witness", "etcd://w:2379"},
            {"options", {{"this_host", "a"}, {"this_port", 4651}, {"adaptive", true}, {"host", "10.0.0.2"}}},
            {"disks", Json::array({{{"name", "virtio0:block"}, {"path", "/dev/vg/web"}, {"size", 1048576}},
                                   {{"name", "virtio2:block"}, {"path", "/srv/data.img"}, {"size", 512}}})}};
}

std::string refused(const Json& j, const vmm::DaemonOptions& o = here()) {
    const auto r = read_standby_request(j, o);
    EXPECT_FALSE(r) << j;
    return r ? "" : r.error().what + "; " + r.error().remedy;
}

TEST(StandbyRequest, HoldsWhatAStandbyNeeds) {
    const auto r = read_standby_request(request(), here());
    ASSERT_TRUE(r) << r.error().what;
    EXPECT_EQ(r->name, "web");
    EXPECT_TRUE(r->overrides.empty()) << "the same paths on both hosts";
    ASSERT_EQ(r->disks.size(), 2u);
    EXPECT_EQ(r->disks[1].index, 2u);
    EXPECT_EQ(r->disks[1].size, 512u);
    EXPECT_FALSE(r->term);
    EXPECT_EQ(protect_in_arguments(*r, here(), "/state", "10.0.0.1"),
              (Json{{"token", std::string(64, 'a')},
                    {"keys", "/etc/proa/keys"},
                    {"plaintext", false},
                    {"listen", "10.0.0.2"},
                    {"witness", "etcd://w:2379"},
                    {"witness_unsafe", false},
                    {"this_host", "b"},
                    {"state_directory", "/state"},
                    {"primary_host", "10.0.0.1"},
                    {"options", {{"adaptive", true}, {"peer_port", 4651}}},
                    {"disks", request()["disks"]}}));
}

TEST(StandbyRequest, AReplicaElsewhereChangesTheGuestsConfigHereAndNothingElse) {
    Json j = request();
    j["disks"][0]["path"] = "/replicas/web disk;1#=.img";
    j["term"] = 7u;

    const auto r = read_standby_request(j, here());
    ASSERT_TRUE(r) << r.error().what;
    ASSERT_EQ(r->overrides.size(), 1u);
    const auto c = vmm::parse_config(kConfig, "f", r->overrides);
    ASSERT_TRUE(c) << c.error().what;
    ASSERT_EQ(c->disks.size(), 3u);
    EXPECT_EQ(c->disks[0].path, "/replicas/web disk;1#=.img");
    EXPECT_FALSE(c->disks[0].read_only);
    EXPECT_EQ(c->disks[0].device, "xvda");
    EXPECT_EQ(c->disks[1].path, "/srv/tools.img");
    EXPECT_TRUE(c->disks[1].read_only);
    EXPECT_EQ(c->disks[2].path, "/srv/data.img");
    EXPECT_EQ(c->kernel, "/k");
    const Json in = protect_in_arguments(*r, here(), "/state", "10.0.0.1");
    EXPECT_EQ(in["term"], 7);
    EXPECT_EQ(in["options"]["disks"], Json::array({{{"name", "virtio0:block"}, {"path", "/dev/vg/web"}},
                                                   {{"name", "virtio2:block"}, {"path", "/srv/data.img"}}}))
        << "after a failover the replicas are where the disks were";

    // The text that proad keeps is the config with the setting behind it: it must mean the same when it is read again.
    const auto again = vmm::parse_config(c->text, "f");
    ASSERT_TRUE(again);
    EXPECT_EQ(vmm::disk_paths(*again), vmm::disk_paths(*c));
}

TEST(StandbyRequest, BothHostsMustMeanTheSameWitness) {
    Json j = request();
    j["witness"] = "etcd://other:2379";
    EXPECT_THAT(refused(j), AllOf(HasSubstr("its witness is etcd://w:2379, the primary's is etcd://other:2379"),
                                  HasSubstr("the same --witness")));
    j["witness"] = "none";
    EXPECT_THAT(refused(j), HasSubstr("the primary's is none"));
    vmm::DaemonOptions o = here();
    o.witness = "";
    EXPECT_THAT(refused(request(), o), HasSubstr("no witness is configured there"));
    o = here();
    o.name = "a";
    EXPECT_THAT(refused(request(), o), HasSubstr("both hosts call themselves a"));
}

TEST(StandbyRequest, WritableDisksAreReplicatedAllAndReadOnlyOnesNever) {
    Json j = request();
    j["disks"].erase(1);
    EXPECT_THAT(refused(j),
                AllOf(HasSubstr("/srv/data.img is writable and not replicated"), HasSubstr("--disk")));
    j = request();
    j["disks"][1]["name"] = "virtio1:block";
    EXPECT_THAT(refused(j), HasSubstr("/srv/tools.img is read-only"));
    j = request();
    j["disks"][1]["name"] = "virtio0:block";
    EXPECT_THAT(refused(j), HasSubstr("is named twice"));
    j = request();
    j["disks"][1]["path"] = "/dev/vg/web";
    EXPECT_THAT(refused(j), HasSubstr("is named twice"));
    for (const char* name : {"", "virtio", "virtio:block", "virtio3:block", "virtio-1:block", "virtio0:net",
                             "virtio0x:block", "virtio99999999999999999999:block"}) {
        j = request();
        j["disks"][0]["name"] = name;
        EXPECT_THAT(refused(j), HasSubstr("has no disk")) << name;
    }
}

TEST(StandbyRequest, APathMayNotBreakOutOfTheConfig) {
    for (const std::string& path :
         {std::string(), std::string("relative"), std::string("/x' ]\nkernel='/evil"), std::string("/a,b"),
          std::string("/a\"b"), std::string("/a\nb"), std::string("/a\0b", 4), std::string("/a "),
          "/" + std::string(4096, 'a')}) {
        Json j = request();
        j["disks"][0]["path"] = path;
        EXPECT_THAT(refused(j), HasSubstr("absolute path")) << path.substr(0, 40);
    }
}

TEST(StandbyRequest, ADiskHasASizeThatDisksHave) {
    for (const Json& size : {Json(0), Json(511), Json(-512), Json(512.5), Json(1e30)}) {
        Json j = request();
        j["disks"][0]["size"] = size;
        EXPECT_THAT(refused(j), HasSubstr("has no size")) << size;
    }
}

// Whatever is at any place of the request: a refusal in one answer, never an exception that nobody catches.
TEST(StandbyRequest, WrongTypesAnywhereAreRefused) {
    migrate::PeerRequests requests;
    requests.on("standby", [](const Json& q, const std::string&, const migrate::PeerReply& done) {
        const auto r = read_standby_request(q, here());
        done(r ? Json{{"ok", true}} : migrate::refusal(r.error()));
    });
    const auto answer_to = [&](const Json& j) {
        std::vector<std::string> answers;
        requests.answer(j.dump(), "10.0.0.1", [&](std::string a) { answers.push_back(std::move(a)); });
        EXPECT_EQ(answers.size(), 1u) << j;
        return answers.empty() ? Json() : Json::parse(answers[0]);
    };
    ASSERT_EQ(answer_to(request())["ok"], true);
    const Json flat = request().flatten();
    const Json wrong[] = {
        nullptr, true, -1, 1e300, "x", Json::array(), Json::object(), Json::array({1}), Json{{"x", nullptr}}};
    // Facts for the host's pre-flight (memory, bridges, ...) are read after this.
    const auto read_here = [](const std::string& where) {
        if (where == "/options/host") return false;
        return where.rfind("/guest/", 0) != 0 || where == "/guest/name" || where == "/guest/config" ||
               where == "/guest/policy";
    };
    unsigned tried = 0;
    for (const auto& [where, value] : flat.items()) {
        if (!read_here(where)) continue;
        for (const Json& w : wrong) {
            if (w.type() == value.type() && where != "/session" && where != "/witness" &&
                where != "/guest/name" && where != "/guest/config" && where != "/cmd")
                continue;  // another string: a right type
            Json j = request();
            j[Json::json_pointer(where)] = w;
            const Json a = answer_to(j);
            EXPECT_EQ(a["ok"], false) << where << " = " << w;
            EXPECT_FALSE(a["what"].get<std::string>().empty()) << where;
            ++tried;
        }
    }
    EXPECT_GT(tried, 80u);
    for (const char* part : {"/guest", "/disks", "/disks/0"})
        for (const Json& w : wrong) {
            Json j = request();
            j[Json::json_pointer(part)] = w;
            EXPECT_EQ(answer_to(j)["ok"], false) << part << " = " << w;
        }
    for (const char* part : {"guest", "session", "witness", "disks"}) {
        Json j = request();
        j.erase(part);
        EXPECT_EQ(answer_to(j)["ok"], false) << "without " << part;
    }
    for (const Json& w : wrong) {
        Json j = request();
        j["term"] = w;
        EXPECT_EQ(answer_to(j)["ok"], false) << w;
        j = request();
        j["options"] = w;
        EXPECT_EQ(answer_to(j)["ok"], w.is_object()) << w;
        for (const std::string option :
             {"interval_ms", "ttl_ms", "adaptive", "auto_reprotect", "this_host", "this_port"}) {
            const bool right = (w.is_boolean() && (option == "adaptive" || option == "auto_reprotect")) ||
                               (w.is_string() && option == "this_host");
            j = request();
            j["options"][option] = w;
            EXPECT_EQ(answer_to(j)["ok"], right) << option << " = " << w;
        }
    }

    Json many = request();
    for (int i = 0; i < 40; ++i) many["disks"].push_back(many["disks"][0]);
    EXPECT_EQ(answer_to(many)["ok"], false);
}

TEST(ProtectOut, GetsWhatOnlyProadKnows) {
    const auto a = protect_out_arguments({{"guest", "web"}, {"host", "10.0.0.2"}}, false, here());
    ASSERT_TRUE(a);
    EXPECT_EQ(*a, (Json{{"host", "10.0.0.2"},
                        {"peer_port", 4650},
                        {"this_port", 4650},
                        {"keys", "/etc/proa/keys"},
                        {"plaintext", false},
                        {"witness", "etcd://w:2379"},
                        {"witness_unsafe", false},
                        {"this_host", "b"},
                        {"interval_ms", 25.0},
                        {"adaptive", false},
                        {"max_lag_ms", 200.0},
                        {"max_overhead", 10.0},
                        {"ack_timeout_ms", 5000.0},
                        {"no_network_buffer", false},
                        {"auto_reprotect", false}}));
    const Json disks = Json::array({{{"name", "virtio0:block"}, {"path", "/r"}}});
    const auto full = protect_out_arguments(
        {{"host", "h"}, {"port", 7}, {"plaintext", true}, {"adaptive", true}, {"disks", disks}}, true, here());
    ASSERT_TRUE(full);
    EXPECT_EQ((*full)["peer_port"], 7);
    EXPECT_EQ((*full)["plaintext"], true);
    EXPECT_EQ((*full)["adaptive"], true);
    EXPECT_EQ((*full)["disks"], disks);
    EXPECT_EQ((*full)["auto_reprotect"], true) << "the guest's config says so";
}

TEST(ProtectOut, WithoutAWitnessNothingIsProtected) {
    vmm::DaemonOptions o = here();
    o.witness = "";
    const auto a = protect_out_arguments({{"host", "h"}}, false, o);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code, "refused");
    EXPECT_THAT(a.error().error.remedy, HasSubstr("--witness etcd://"));
}

TEST(NameTaken, SaysWhatIsInTheWay) {
    const auto words = [](const Json& info) {
        const auto e = explain_name_taken("web", info);
        return e.what + "; " + e.remedy;
    };
    EXPECT_THAT(words({{"state", "standby"}, {"protection", "standby"}}),
                HasSubstr("has a standby there already"));
    for (const char* left : {"fenced", "superseded", "discarded", "left"})
        EXPECT_THAT(words({{"state", "paused"}, {"protection", left}}),
                    AllOf(HasSubstr("an old copy of web"), HasSubstr(left), HasSubstr("proa destroy web")));
    EXPECT_THAT(words({{"state", "crashed"}, {"protection", ""}}), HasSubstr("(crashed)"));
    EXPECT_THAT(words({{"state", "running"}}), HasSubstr("runs there already"));
    EXPECT_THAT(words({{"state", 7}, {"protection", nullptr}}), HasSubstr("runs there already"));
    EXPECT_THAT(words(Json::object()), HasSubstr("runs there already")) << "it does not answer yet";
}

TEST(NameTaken, IsWaitedForWhereTheCopyMayBeLeaving) {
    EXPECT_TRUE(may_be_leaving({{"state", "standby"}, {"protection", "standby"}}));
    for (const char* left : {"superseded", "discarded", "left"})
        EXPECT_TRUE(may_be_leaving({{"state", "paused"}, {"protection", left}})) << left;
    EXPECT_TRUE(may_be_leaving(Json::object())) << "its process ends";
    EXPECT_FALSE(may_be_leaving({{"state", "running"}, {"protection", ""}}));
    EXPECT_FALSE(may_be_leaving({{"state", "paused"}, {"protection", "fenced"}})) << "an operator decides";
    EXPECT_FALSE(may_be_leaving({{"state", "crashed"}}));
}

}  // namespace
}  // namespace proa::remus
