// The order in which cipher suites are offered.
#include <gtest/gtest.h>

#include <set>

#include "transport/cipher.hpp"

namespace proa::transport {
namespace {

using std::chrono::nanoseconds;

TEST(CipherSuites, TheFastestIsOfferedFirst) {
    const auto fast = [](const char* favourite) {
        return [favourite](const CipherSuite& c) {
            return c.cipher == std::string(favourite) ? nanoseconds(1) : nanoseconds(1000);
        };
    };
    EXPECT_EQ(fastest_first(fast("AES-128-GCM")), "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256");
    EXPECT_EQ(fastest_first(fast("ChaCha20-Poly1305")), "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
}

TEST(CipherSuites, OneThatThisOpensslLacksComesLastAndStaysOffered) {
    EXPECT_EQ(seal_time({"TLS_NONE", "no such cipher"}), nanoseconds::max());
    const auto names = fastest_first(
        [](const CipherSuite& c) { return &c == kCipherSuites.data() ? nanoseconds::max() : nanoseconds(5); });
    EXPECT_EQ(names, std::string(kCipherSuites[1].suite) + ":" + kCipherSuites[0].suite);
}

TEST(CipherSuites, EachIsMeasuredAndOffered) {
    for (const auto& c : kCipherSuites) {
        EXPECT_GT(seal_time(c), nanoseconds(0)) << c.cipher;
        EXPECT_LT(seal_time(c), nanoseconds::max()) << c.cipher;
        EXPECT_NE(cipher_suites().find(c.suite), std::string::npos);
    }
}

}  // namespace
}  // namespace proa::transport
