// What a peer's daemon sends is hostile: every request gets one answer, and none of them ends proad.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "migrate/peer_requests.hpp"
#include "migrate/preflight.hpp"

namespace proa::migrate {
namespace {

using ::testing::HasSubstr;

class PeerRequestsTest : public ::testing::Test {
  protected:
    PeerRequestsTest() {
        requests.on("ask", [](const Json& q, const std::string&, const PeerReply& done) {
            const unsigned n = q.at("number");
            done({{"ok", true}, {"twice", 2 * n}});
        });
    }
    Json ask(const std::string& text) {
        answers.clear();
        requests.answer(text, "10.0.0.1", [this](std::string a) { answers.push_back(std::move(a)); });
        EXPECT_EQ(answers.size(), 1u) << text.substr(0, 80);
        return answers.empty() ? Json() : Json::parse(answers.front());
    }
    PeerRequests requests;
    std::vector<std::string> answers;
};

TEST_F(PeerRequestsTest, AKnownCommandIsAnsweredByItsHandler) {
    EXPECT_EQ(ask(R"({"cmd":"ask","number":21})"), (Json{{"ok", true}, {"twice", 42}}));
}

TEST_F(PeerRequestsTest, AHandlerIsToldWhoAsks) {
    requests.on("who", [](const Json&, const std::string& from, const PeerReply& done) {
        done({{"you", from}});
    });
    EXPECT_EQ(ask(R"({"cmd":"who"})"), (Json{{"you", "10.0.0.1"}}));
}

TEST_F(PeerRequestsTest, AnUnknownCommandIsRefusedWithARemedy) {
    const Json a = ask(R"({"cmd":"dance"})");
    EXPECT_EQ(a["ok"], false);
    EXPECT_EQ(a["what"], "unknown request dance");
    EXPECT_THAT(a["remedy"].get<std::string>(), HasSubstr("same version"));
}

TEST_F(PeerRequestsTest, WhatIsNoRequestIsRefused) {
    const std::string deep = R"({"cmd":"ask","number":)" + std::string(1 << 20, '[') + "}";
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("null"), std::string("7"), std::string("[]"),
          std::string("{}"), std::string(R"({"cmd":7})"), std::string(R"({"cmd":["ask"]})"),
          std::string(R"({"cmd":"ask"})"), std::string(R"({"cmd":"ask","number":"many"})"),
          std::string(R"({"cmd":"ask","number":{}})"), std::string("{\"cmd\":\"\xff\"}"), deep}) {
        const Json a = ask(text);
        EXPECT_EQ(a["ok"], false) << text.substr(0, 80);
        EXPECT_THAT(a["what"].get<std::string>(), HasSubstr("malformed request")) << text.substr(0, 80);
    }
}

TEST_F(PeerRequestsTest, TheFirstAnswerCountsWhateverTheHandlerDoesNext) {
    requests.on("twice", [](const Json&, const std::string&, const PeerReply& done) {
        done({{"ok", true}});
        done({{"ok", false}});
        throw std::runtime_error("too late");
    });
    EXPECT_EQ(ask(R"({"cmd":"twice"})"), (Json{{"ok", true}}));
}

TEST_F(PeerRequestsTest, AHandlerThatForgetsToAnswerRefuses) {
    PeerReply kept;
    requests.on("later", [&](const Json&, const std::string&, PeerReply done) { kept = std::move(done); });
    requests.answer(R"({"cmd":"later"})", "", [this](std::string a) { answers.push_back(std::move(a)); });
    EXPECT_TRUE(answers.empty()) << "it may still answer";
    kept = {};
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(Json::parse(answers.front())["ok"], false);
}

TEST_F(PeerRequestsTest, AnAnswerWithBytesThatAreNoUtf8IsStillAnAnswer) {
    requests.on("echo", [](const Json&, const std::string&, const PeerReply& done) {
        done({{"what", "\xff!"}});
    });
    EXPECT_THAT(ask(R"({"cmd":"echo"})")["what"].get<std::string>(), HasSubstr("!"));
}

TEST(PreflightNumbers, AreWholeOrRefused) {
    const auto verdict = [](const char* version, const char* memory, const char* size) {
        const std::string text = std::string(R"({"stream_version":)") + version + R"(,"memory_mib":)" + memory +
                                 R"(,"disks":[{"size":512},{"size":)" + size + "}]}";
        return check_numbers(Json::parse(text));
    };
    EXPECT_TRUE(verdict("1", "256", "18446744073709551615"));
    for (const char* wrong : {"1e30", "-1", "1.5", "\"1\"", "null", "[1]", "18446744073709551616"}) {
        EXPECT_FALSE(verdict(wrong, "256", "512")) << wrong;
        EXPECT_FALSE(verdict("1", wrong, "512")) << wrong;
        EXPECT_FALSE(verdict("1", "256", wrong)) << wrong;
    }
}

}  // namespace
}  // namespace proa::migrate
