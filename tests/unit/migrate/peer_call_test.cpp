// What daemons say to each other is bounded before it is parsed.
#include <gtest/gtest.h>

#include "migrate/peer_call.hpp"

namespace proa::migrate {
namespace {

std::optional<Json> parse(const std::string& s) {
    return parse_peer_json({reinterpret_cast<const std::uint8_t*>(s.data()), s.size()});
}
std::string nested(unsigned depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
}

TEST(PeerJson, AnObjectIsUnderstood) {
    const auto j = parse(R"({"cmd":"outcome","session":"00"})");
    ASSERT_TRUE(j);
    EXPECT_EQ((*j)["cmd"], "outcome");
}

TEST(PeerJson, WhatIsNotAnObjectIsRefused) {
    for (const char* s : {"", "7", "[]", "null", "{", "{\"a\":}", "\xff"}) EXPECT_FALSE(parse(s)) << s;
}

TEST(PeerJson, DepthAndLengthAreBoundedBeforeParsing) {
    EXPECT_TRUE(parse(nested(30)));
    EXPECT_FALSE(parse(nested(1'000)));
    EXPECT_FALSE(parse(nested(kMaxPeerJson / 4)));
    EXPECT_TRUE(parse("{\"a\":\"" + std::string(kMaxPeerJson / 2, 'x') + "\"}"));
    EXPECT_FALSE(parse("{\"a\":\"" + std::string(kMaxPeerJson, 'x') + "\"}"));
}

}  // namespace
}  // namespace proa::migrate
