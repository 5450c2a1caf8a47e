// `proa keys init`: what it writes, who may read it, and what it refuses.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "tests/support/temporary.hpp"
#include "transport/keys.hpp"

namespace proa::transport {
namespace {

mode_t mode_of(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 ? st.st_mode & 0777 : 0;
}
std::string contents(const std::string& path) {
    std::ifstream f(path);
    return {std::istreambuf_iterator<char>(f), {}};
}

TEST(Keys, EachHostGetsWhatItNeedsAndOnlyItsOwnerReadsTheKeys) {
    test::TemporaryDirectory d;
    const auto r = init_keys(d.path(), {"alpha.example", "10.1.2.3", "fd00::1"});
    ASSERT_TRUE(r) << r.error().what;
    EXPECT_EQ(mode_of(d / "ca.key"), 0600u);
    for (const std::string h : {"alpha.example", "10.1.2.3", "fd00::1"}) {
        EXPECT_EQ(mode_of(d / h), 0700u);
        EXPECT_EQ(mode_of(d / (h + "/host.key")), 0600u);
        EXPECT_EQ(mode_of(d / (h + "/host.pem")), 0644u);
        EXPECT_EQ(contents(d / (h + "/ca.pem")), contents(d / "ca.pem"));
    }
    EXPECT_NE(contents(d / "10.1.2.3/host.key"), contents(d / "fd00::1/host.key"));
}

TEST(Keys, AHostIsAddedUnderTheSameCa) {
    test::TemporaryDirectory d;
    ASSERT_TRUE(init_keys(d.path(), {"a"}));
    const std::string ca = contents(d / "ca.pem"), a = contents(d / "a/host.pem");
    ASSERT_TRUE(init_keys(d.path(), {"b"}));
    EXPECT_EQ(contents(d / "ca.pem"), ca);
    EXPECT_EQ(contents(d / "a/host.pem"), a);
    EXPECT_EQ(contents(d / "b/ca.pem"), ca);
}

TEST(Keys, ExistingKeysAreNotOverwritten) {
    test::TemporaryDirectory d;
    ASSERT_TRUE(init_keys(d.path(), {"a"}));
    const std::string before = contents(d / "a/host.key");
    const auto r = init_keys(d.path(), {"a"});
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().remedy.find("remove the directory"), std::string::npos);
    EXPECT_EQ(contents(d / "a/host.key"), before);
}

TEST(Keys, NamesThatAreNoHostsAreRefused) {
    test::TemporaryDirectory d;
    for (const std::string name : {"", "..", "../etc", "a/b", ".hidden"})
        EXPECT_FALSE(init_keys(d.path(), {name})) << name;
}

TEST(Keys, ACaWithoutItsKeyIsExplained) {
    test::TemporaryDirectory d;
    ASSERT_TRUE(init_keys(d.path(), {"a"}));
    ASSERT_EQ(::remove((d / "ca.key").c_str()), 0);
    const auto r = init_keys(d.path(), {"b"});
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().what.find("ca.key"), std::string::npos);
}

}  // namespace
}  // namespace proa::transport
