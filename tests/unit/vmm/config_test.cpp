#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "vmm/config/guest_config.hpp"

namespace proa::vmm {
namespace {

using ::testing::HasSubstr;

const char kTutorial[] = R"(# Xen's own example for Arm
kernel = "/root/Image"
name = "guest"
memory = 512
vcpus = 2
extra = "earlycon=xenboot console=hvc0 root=/dev/xvda ro"
disk = [ 'phy:/dev/vg0/guest,xvda,w' ]
)";

TEST(Config, TheXenTutorialsExampleIsAcceptedAsItIs) {
    const auto c = parse_config(kTutorial, "guest.cfg");
    ASSERT_TRUE(c) << c.error().what;
    EXPECT_EQ(c->kernel, "/root/Image");
    EXPECT_EQ(c->memory_mib, 512u);
    EXPECT_EQ(c->vcpus, 2u);
    ASSERT_EQ(c->disks.size(), 1u);
    EXPECT_EQ(c->disks[0].path, "/dev/vg0/guest");
    EXPECT_FALSE(c->disks[0].read_only);
    EXPECT_THAT(c->extra, HasSubstr("root=/dev/vda"));
    ASSERT_EQ(c->warnings.size(), 1u);
    EXPECT_THAT(c->warnings[0], HasSubstr("xvd"));
}

TEST(Config, OnlyWordsThatNameAXenDiskAreMapped) {
    const auto extra = [](const std::string& text) {
        return parse_config(std::string(kTutorial) + "extra = \"" + text + "\"\n", "guest.cfg")->extra;
    };
    EXPECT_EQ(extra("root=/dev/xvdb2 resume=/dev/xvdc xvda"), "root=/dev/vdb2 resume=/dev/vdc vda");
    EXPECT_EQ(extra("a.xvda=1 _xvda axvda xvd xvd1 xvdA /dev/xvd"),
              "a.vda=1 _xvda axvda xvd xvd1 xvdA /dev/xvd");
    EXPECT_EQ(extra("xvxvda"), "xvxvda");
}

TEST(Config, AnUnknownKeyIsAWarningThatNamesIt) {
    const auto c = parse_config(std::string(kTutorial) + "frobnicate = 1\n", "guest.cfg");
    ASSERT_TRUE(c);
    EXPECT_THAT(c->warnings, ::testing::Contains(HasSubstr("guest.cfg:8: unknown key `frobnicate`")));
}

TEST(Config, WrongValuesNameFileAndLine) {
    const auto error = [](const std::string& more) {
        const auto c = parse_config(std::string(kTutorial) + more, "web.cfg");
        return c ? std::string("accepted") : c.error().what;
    };
    EXPECT_THAT(error("memory = \"lots\"\n"), HasSubstr("web.cfg:8: memory"));
    EXPECT_THAT(error("auto_reprotect = 2\n"), HasSubstr("auto_reprotect: must be a number from 0 to 1"));
    EXPECT_THAT(error("vcpus = 9\n"), HasSubstr("web.cfg:8: vcpus: must be a number from 1 to 8"));
    EXPECT_THAT(error("disk = [ 'tap2:x,xvda,w' ]\n"), HasSubstr("tap disks are not supported"));
    EXPECT_THAT(error("disk = [ 'format=qcow2,vdev=xvda,access=rw,target=/x' ]\n"), HasSubstr("qcow2"));
    for (const char* mac : {"ff:00:00:00:00:00", "02:00:00:00:00", "02:00:00:00:00:0", "02:00:00:00:00:0g",
                            "02-00-00-00-00-00", "02:00:00:00:00:00:00", "2:00:00:00:00:000"})
        EXPECT_THAT(error(std::string("vif = [ 'mac=") + mac + "' ]\n"), HasSubstr("not a unicast MAC")) << mac;
    EXPECT_EQ(error("vif = [ 'mac=02:aB:0c:9F:00:e1' ]\n"), "accepted");
    EXPECT_THAT(error("name = \"x\n"), HasSubstr("isn't closed"));
    EXPECT_THAT(error("cpus = \"5-2\"\n"), HasSubstr("not a CPU list"));
    EXPECT_THAT(error("on_crash = \"explode\"\n"), HasSubstr("on_crash"));
}

TEST(Config, DisksInEverySyntax) {
    const auto c = parse_config(std::string(kTutorial) +
                                    "disk = [ '/dev/a,raw,xvda,rw', 'format=raw, vdev=vdb, access=ro, "
                                    "target=/dev/b', 'file:/c.img,xvdc,r' ]\n",
                                "x");
    ASSERT_TRUE(c) << c.error().what;
    ASSERT_EQ(c->disks.size(), 3u);
    EXPECT_EQ(c->disks[0].path, "/dev/a");
    EXPECT_TRUE(c->disks[1].read_only);
    EXPECT_EQ(c->disks[2].path, "/c.img");
    EXPECT_TRUE(c->disks[2].read_only);
}

TEST(Config, ProtectionIsNotTakenUpAgainUnlessItSaysSo) {
    const auto off = parse_config("name='a';kernel='/k'", "f"),
               on = parse_config("name='a';kernel='/k';auto_reprotect=1", "f");
    ASSERT_TRUE(off && on);
    EXPECT_FALSE(off->auto_reprotect);
    EXPECT_TRUE(on->auto_reprotect);
}

TEST(Config, OverridesWinAndAppendJoins) {
    const auto c =
        parse_config("name='a';kernel='/k'\nextra = 'x'\nextra += ' y'", "f", {"memory=64", "name=\"b\""});
    ASSERT_TRUE(c) << c.error().what;
    EXPECT_EQ(c->name, "b");
    EXPECT_EQ(c->memory_mib, 64u);
    EXPECT_EQ(c->extra, "x y");
}

TEST(Config, AWrongOverrideIsNotBlamedOnTheFile) {
    const auto c = parse_config("name='a'\nkernel='/k'\nmemory=64", "f.cfg", {"memory=1"});
    ASSERT_FALSE(c);
    EXPECT_THAT(c.error().what, HasSubstr("command line: memory: must be a number"));
    const auto warned = parse_config("name='a'\nkernel='/k'", "f.cfg", {"colour='red'"});
    ASSERT_TRUE(warned);
    EXPECT_EQ(warned->warnings, std::vector<std::string>{"command line: unknown key `colour` is ignored"});
}

TEST(Config, CpuLists) {
    std::uint64_t m = 0;
    EXPECT_TRUE(parse_cpu_list("0-3,^1", m));
    EXPECT_EQ(m, 0b1101u);
    EXPECT_TRUE(parse_cpu_list("all", m));
    for (const char* bad : {"", "a", "1-", "^0", "64", "1--2"}) EXPECT_FALSE(parse_cpu_list(bad, m)) << bad;
}

TEST(Config, AnyBytesAreParsedOrRefusedNeverWorse) {
    std::mt19937 random(3);
    const std::string seed = kTutorial;
    for (int n = 0; n < 20'000; ++n) {
        std::string s = seed;
        for (int k = 0; k < 8; ++k) s[random() % s.size()] = static_cast<char>(random());
        s.resize(random() % (s.size() + 1));
        (void)parse_config(s, "fuzz");
    }
}

}  // namespace
}  // namespace proa::vmm
