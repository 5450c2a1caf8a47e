// --witness: what it may be, and that proad refuses the rest before it does anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "remus/standby_request.hpp"

namespace proa::remus {
namespace {

using ::testing::HasSubstr;

std::string complaint(const std::string& spec, bool unsafe = false) {
    const auto e = complaint_about_witness(spec, unsafe);
    if (!e) return "";
    EXPECT_FALSE(e->remedy.empty()) << spec;
    return e->what;
}

TEST(WitnessOption, IsEtcdOrNoneWithEyesOpen) {
    for (const char* good :
         {"", "etcd://10.77.0.9:2379", "etcd://a.example:2379,b-2:2380", "etcd://[fd00::1]:2379"})
        EXPECT_EQ(complaint(good), "") << good;
    EXPECT_EQ(complaint("none", true), "");
    EXPECT_THAT(complaint("none"), HasSubstr("both may run the guest"));
    EXPECT_THAT(complaint("etcd://w:1", true), HasSubstr("--witness none only"));
    EXPECT_THAT(complaint("", true), HasSubstr("--witness none only"));
}

TEST(WitnessOption, WhatIsNoListOfMembersIsRefused) {
    for (const char* bad : {"etcd",
                            "etcd://",
                            "etcd://w",
                            "etcd://w:",
                            "etcd://w:0",
                            "etcd://w:65536",
                            "etcd://w:x",
                            "etcd://:2379",
                            "etcd://w:1,",
                            "etcd://w:1,,v:1",
                            "http://w:1",
                            "etcd://a b:1",
                            "etcd://u@w:1",
                            "etcd://w:1/path",
                            "etcd://[fd00::1:2379",
                            "etcd://[]:1",
                            "etcd://[x]:1",
                            "etcd://fd00::1:2379",
                            "None",
                            "etcd://w:1 "})
        EXPECT_THAT(complaint(bad), HasSubstr("is not etcd://HOST:PORT")) << bad;
}

TEST(WitnessOption, AnAddressThatMeansAnotherMachineOnEachHostIsRefused) {
    for (const char* own : {"etcd://localhost:2379", "etcd://127.0.0.1:2379", "etcd://w:2379,LocalHost:2379",
                            "etcd://[::1]:2379"})
        EXPECT_THAT(complaint(own), HasSubstr("another machine on each host")) << own;
}

TEST(WitnessOption, TheSameMembersInAnyOrderAreTheSameWitness) {
    EXPECT_TRUE(same_witness("etcd://a:1,b:2", "etcd://B:2,a:01"));
    EXPECT_TRUE(same_witness("none", "none"));
    EXPECT_FALSE(same_witness("etcd://a:1", "etcd://a:1,b:2"));
    EXPECT_FALSE(same_witness("etcd://a:1", "etcd://a:2"));
    EXPECT_FALSE(same_witness("etcd://a:1", "none"));
    EXPECT_FALSE(same_witness("nonsense", "etcd://a:1"));
}

// The daemon itself. It never gets far here: there is no proa-hv below this machine.
std::string proad(const std::string& arguments) {
    FILE* p = ::popen((std::string(PROAD_PROGRAM) + " --run-dir /nonexistent/run --state-dir /proc/none " +
                       arguments + " 2>&1")
                          .c_str(),
                      "r");
    std::string out;
    for (char b[4096]; std::size_t n = ::fread(b, 1, sizeof(b), p);) out.append(b, n);
    const int status = ::pclose(p);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 0) << arguments;
    return out;
}

TEST(WitnessOption, ProadRefusesToStartWithAWrongOne) {
    EXPECT_THAT(proad("--witness none"), HasSubstr("both may run the guest"));
    EXPECT_THAT(proad("--witness etcd://w"), HasSubstr("is not etcd://HOST:PORT"));
    EXPECT_THAT(proad("--witness none --unsafe"), HasSubstr("/proc/none"))
        << "past the option, to the next thing";
    EXPECT_THAT(proad("--witness etcd://a:1,b:2"), HasSubstr("/proc/none"));
}

TEST(WitnessOption, AConfigFileMayNameSeveralMembers) {
    const std::string path = ::testing::TempDir() + "proad-" + std::to_string(::getpid()) + ".conf";
    for (const char* line : {"witness = etcd://a:1,b:2\n", "witness = \"etcd://a:1,b:2\"\n"}) {
        std::ofstream(path) << "# a pair\n" << line << "name = left\n";
        EXPECT_THAT(proad("--config " + path), HasSubstr("/proc/none")) << line;
    }
    std::ofstream(path) << "witness = etcd://a:1,b\n";
    EXPECT_THAT(proad("--config " + path), HasSubstr("'etcd://a:1,b' is not")) << "all of it arrives";
    ::unlink(path.c_str());
}

}  // namespace
}  // namespace proa::remus
