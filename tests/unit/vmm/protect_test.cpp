// `proa protect`'s arguments as proad gets them, and protection as the terminal shows it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cli/protect.hpp"

namespace proa::vmm::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

ProtectArgs arguments() {
    ProtectArgs a;
    a.guest = "web";
    a.host = "backup";
    return a;
}

std::string refused(const ProtectArgs& a) {
    const auto r = protect_request(a);
    EXPECT_FALSE(r);
    return r ? "" : r.error().what + "; " + r.error().remedy;
}

TEST(Protect, DurationsAreMillisecondsUnlessTheySaySeconds) {
    const std::pair<const char*, double> good[] = {{"25ms", 25}, {"0.2s", 200}, {"25", 25},     {"1.5", 1.5},
                                                   {"2s", 2000}, {"0", 0},      {"0.5ms", 0.5}, {"1.s", 1000}};
    for (const auto& [text, ms] : good) {
        const auto m = milliseconds(text);
        ASSERT_TRUE(m) << text;
        EXPECT_DOUBLE_EQ(*m, ms) << text;
    }
    for (const char* bad : {"", "ms", "s", "adaptive", "-1", "-0", "1m", "1 ms", " 1", "1ms ", "1e3", "nan",
                            "inf", "0x10", "1,5", "25msx"})
        EXPECT_FALSE(milliseconds(bad)) << bad;
}

TEST(Protect, DisksAreNamedAsTheGuestOrTheMachineNamesThem) {
    const std::pair<const char*, const char*> rows[] = {{"vda", "virtio0:block"},
                                                        {"xvdb", "virtio1:block"},
                                                        {"vdz", "virtio25:block"},
                                                        {"vdaa", "virtio26:block"},
                                                        {"vdaf", "virtio31:block"},
                                                        {"vdag", ""},
                                                        {"virtio3:block", "virtio3:block"},
                                                        {"virtio32:block", ""},
                                                        {"virtio:block", ""},
                                                        {"virtio1:net", ""},
                                                        {"virtio1x:block", ""},
                                                        {"sda", ""},
                                                        {"vd", ""},
                                                        {"vdaaa", ""},
                                                        {"vd1", ""},
                                                        {"", ""},
                                                        {"virtio-1:block", ""},
                                                        {"VDA", ""}};
    for (const auto& [name, device] : rows) EXPECT_EQ(disk_device(name), device) << name;
}

TEST(Protect, TheRequestHasWhatWasSaidAndTheDefaults) {
    const auto plain = protect_request(arguments());
    ASSERT_TRUE(plain);
    EXPECT_EQ(*plain, (Json{{"guest", "web"},
                            {"host", "backup"},
                            {"port", 4650},
                            {"plaintext", false},
                            {"interval_ms", 25.0},
                            {"adaptive", false},
                            {"max_lag_ms", 200.0},
                            {"max_overhead", 10.0},
                            {"ack_timeout_ms", 5000.0},
                            {"no_network_buffer", false},
                            {"auto_reprotect", false}}))
        << "no disks: all of them, under the same path";
    ProtectArgs a = arguments();
    a.interval = "adaptive";
    a.max_lag = "0.5s";
    a.max_overhead = 25;
    a.disks = {"vda=/dev/vg0/web", "xvdb=/srv/a=b"};
    a.auto_reprotect = a.no_network_buffer = a.unsafe = true;
    const auto full = protect_request(a);
    ASSERT_TRUE(full);
    EXPECT_EQ((*full)["adaptive"], true);
    EXPECT_EQ((*full)["max_lag_ms"], 500.0);
    EXPECT_EQ((*full)["max_overhead"], 25.0);
    EXPECT_EQ((*full)["no_network_buffer"], true);
    EXPECT_EQ((*full)["disks"], Json::array({{{"name", "virtio0:block"}, {"path", "/dev/vg0/web"}},
                                             {{"name", "virtio1:block"}, {"path", "/srv/a=b"}}}));
}

TEST(Protect, AnAdaptiveIntervalIsNeverLongerThanTheLag) {
    ProtectArgs a = arguments();
    a.interval = "adaptive";
    a.max_lag = "10ms";
    const auto r = protect_request(a);
    ASSERT_TRUE(r);
    EXPECT_EQ((*r)["interval_ms"], 10.0);
}

TEST(Protect, WrongArgumentsAreRefusedWithARemedy) {
    ProtectArgs a = arguments();
    a.host = "";
    EXPECT_THAT(refused(a), HasSubstr("proa protect GUEST HOST"));
    a = arguments();
    a.no_network_buffer = true;
    EXPECT_THAT(refused(a), HasSubstr("--unsafe"));
    a = arguments();
    a.unsafe = true;
    EXPECT_THAT(refused(a), HasSubstr("--no-network-buffer"));
    a = arguments();
    a.interval = "often";
    EXPECT_THAT(refused(a), AllOf(HasSubstr("'often' is not a duration"), HasSubstr("25ms, 0.2s or adaptive")));
    for (const char* out_of_range : {"0", "4.9ms", "11s"}) {
        a.interval = out_of_range;
        EXPECT_THAT(refused(a), HasSubstr("from 5ms to 10s")) << out_of_range;
    }
    a = arguments();
    a.interval = "300ms";
    EXPECT_EQ((*protect_request(a))["max_lag_ms"], 300.0) << "nobody has asked for less";
    a.max_lag = "200ms";
    EXPECT_THAT(refused(a), HasSubstr("--max-lag is shorter than the interval"));
    a = arguments();
    a.ack_timeout = "100ms";
    EXPECT_THAT(refused(a), HasSubstr("from 200ms to 60s"));
    a.ack_timeout = "2s";
    EXPECT_EQ((*protect_request(a))["ack_timeout_ms"], 2000.0);
    for (const char* disk : {"vda", "vda=", "vda=relative", "sda=/x", "=/x"}) {
        a = arguments();
        a.disks = {disk};
        EXPECT_THAT(refused(a), HasSubstr("is not NAME=PATH")) << disk;
    }
    a.disks = {"vda=/x", "xvda=/y"};
    EXPECT_THAT(refused(a), HasSubstr("for the second time"));
    a.disks = {"vda=/x", "vdb=/x"};
    EXPECT_THAT(refused(a), HasSubstr("for the second time"));
}

TEST(Protect, ProgressIsABarThatStaysInItsBounds) {
    EXPECT_EQ(format_protecting({{"phase", "syncing"}, {"percent", 50}, {"sent_bytes", 3 * 1048576}}),
              "[###############...............]  50%  syncing  3.0 MB sent  ");
    EXPECT_THAT(format_protecting({{"percent", 1e9}}), HasSubstr("] 100%"));
    EXPECT_THAT(format_protecting({{"percent", -3}, {"phase", 7}}), HasSubstr("]   0%  -"));
    EXPECT_THAT(format_protecting({{"message", "hashing vda"}}), HasSubstr("hashing vda"));
}

Json status() {
    return {{"name", "web"},          {"role", "primary"},   {"state", "protected"},
            {"peer", "10.77.0.2"},    {"epoch", 4711},       {"checkpoints_per_s", 39.6},
            {"pause_ms_p50", 0.83},   {"pause_ms_p99", 2.4}, {"lag_ms", 31.2},
            {"held_packets", 12},     {"held_bytes", 20480}, {"failover", nullptr},
            {"events", Json::array()}};
}

TEST(Protect, StatusIsOneLineAGuest) {
    EXPECT_EQ(format_protection(Json::array({status()})),
              "NAME                     ROLE     STATE        PEER                      EPOCH  RATE/s        "
              "PAUSE ms  "
              "LAG ms HELD\n"
              "web                      primary  protected    10.77.0.2                  4711    39.6         "
              "0.8/2.4  "
              "    31 12 (20 KiB)\n");
}

TEST(Protect, WhatIsNotKnownIsADash) {
    const std::string s = format_protection(Json::array({{{"name", "idle"}, {"state", "unresponsive"}}}));
    EXPECT_THAT(s, AllOf(HasSubstr("idle"), HasSubstr("unresponsive"), HasSubstr("-/-"), Not(HasSubstr("0"))));
    // A proa-vm of another version may say anything.
    EXPECT_THAT(
        format_protection(Json::array({{{"name", 1}, {"epoch", "x"}, {"held_packets", Json::array()}}})),
        HasSubstr("-/-"));
}

TEST(Protect, DetailsTellTheFailoverAndWhatHappenedWhen) {
    Json g = status();
    EXPECT_EQ(format_protection_details(g), "");
    g["failover"] = {{"detected_ms", 812}, {"claimed_ms", 2100.4}, {"running_ms", 2160}};
    g["events"] = Json::array({{{"at_ms", 1500}, {"what", "syncing"}},
                               {{"at_ms", 1795896968123}, {"what", "protected by 10.77.0.2"}},
                               "nonsense"});
    EXPECT_EQ(format_protection_details(g),
              "failover: detected after 812 ms, key after 2100 ms, running after 2160 ms\n"
              "     1.500 s  syncing\n"
              "2026-11-28 20:16:08.123  protected by 10.77.0.2\n");
}

}  // namespace
}  // namespace proa::vmm::cli
