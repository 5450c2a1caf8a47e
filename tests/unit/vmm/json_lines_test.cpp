// The control socket against clients that do not keep to the protocol.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <thread>

#include "vmm/json_lines.hpp"

namespace proa::vmm {
namespace {

using ::testing::HasSubstr;

class JsonLines : public ::testing::Test {
  protected:
    void SetUp() override {
        path = ::testing::TempDir() + "proa-json-" + std::to_string(::getpid()) + ".sock";
        registry.add("echo", [](const Json& a, const Reply& r) { r.ok(a); });
        registry.add("need", [](const Json& a, const Reply& r) { r.ok({{"n", a.at("n").get<int>()}}); });
        registry.add("bytes", [](const Json&, const Reply& r) {
            r.ok({{"text", std::string("a\xff\xfe b")}});
        });
        registry.add("steps", [](const Json&, const Reply& r) {
            r.progress({{"at", 1}});
            r.progress({{"at", 2}});
            r.ok();
        });
        registry.add("drop", [](const Json&, const Reply&) {});
        registry.add("hang", [this](const Json&, const Reply& r) {
            r.on_disconnect([this] { ++left; });
            held.push_back(r);
        });
        start();
    }
    void start() {
        auto s = CommandServer::listen(io, path, registry);
        ASSERT_TRUE(s) << s.error().what;
        server = std::move(*s);
        thread = std::thread([this] {
            const auto work = boost::asio::make_work_guard(io);
            io.run();
        });
    }
    void TearDown() override {
        io.stop();
        thread.join();
        held.clear();
        server.reset();
        ::unlink(path.c_str());
    }
    int dial() const {
        const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        std::strncpy(a.sun_path, path.c_str(), sizeof(a.sun_path) - 1);
        EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof(a)), 0);
        return fd;
    }
    static std::string line_from(int fd) {
        std::string s;
        for (char c; ::recv(fd, &c, 1, 0) == 1 && c != '\n';) s += c;
        return s;
    }
    // Sends raw bytes on a connection of its own; the answer's line ("" if it was closed without one).
    std::string answer(const std::string& bytes) const {
        const int fd = dial();
        std::thread sender([&] { (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
        std::string s = line_from(fd);
        ::shutdown(fd, SHUT_RDWR);
        sender.join();
        ::close(fd);
        return s;
    }
    boost::asio::io_context io;
    CommandRegistry registry;
    std::string path;
    std::unique_ptr<CommandServer> server;
    std::vector<Reply> held;
    std::atomic<int> left{0};
    std::thread thread;
};

TEST_F(JsonLines, AnswersInOrderAndKeepsTheId) {
    EXPECT_EQ(answer("{\"id\":7,\"cmd\":\"echo\",\"args\":{\"a\":[1]}}\n"),
              R"({"id":7,"ok":true,"result":{"a":[1]}})");
    const auto r = call(path, "echo", {{"x", "y"}});
    ASSERT_TRUE(r);
    EXPECT_EQ((*r)["x"], "y");
}

TEST_F(JsonLines, WhatIsNoRequestIsRefusedAndTheNextOneServed) {
    for (const char* bad :
         {"nonsense", "", "[]", "7", "\"x\"", "{}", "{\"cmd\":7}", "{\"cmd\":\"echo\",\"args\":[]}",
          "{\"cmd\":\"need\",\"args\":{\"n\":\"text\"}}", "{\"cmd\":\"need\"}", "{\"cmd\":\"rm -rf\"}",
          "{\"cmd\":\"echo\"", "\x01\xff\xfe", "{\"cmd\":\"\xff\"}"}) {
        const int fd = dial();
        const std::string two = std::string(bad) + "\n{\"id\":2,\"cmd\":\"echo\"}\n";
        ASSERT_EQ(::send(fd, two.data(), two.size(), 0), static_cast<ssize_t>(two.size()));
        EXPECT_THAT(line_from(fd), HasSubstr("\"code\":\"invalid\"")) << bad;
        EXPECT_EQ(line_from(fd), R"({"id":2,"ok":true,"result":{}})") << bad;
        ::close(fd);
    }
    EXPECT_THAT(answer("{\"cmd\":\"rm\"}\n"), HasSubstr("unknown command rm"));
}

TEST_F(JsonLines, DeepNestingIsRefusedBeforeItIsParsed) {
    const std::string deep(400'000, '[');
    EXPECT_THAT(answer(deep + "\n"), HasSubstr("nests deeper"));
    EXPECT_THAT(answer("{\"id\":" + deep + "\n"), HasSubstr("nests deeper"));
    std::string objects;
    for (int i = 0; i < 1000; ++i) objects += "{\"a\":";
    EXPECT_THAT(answer(objects + "\n"), HasSubstr("nests deeper"));
    EXPECT_THAT(answer("{\"cmd\":\"echo\",\"args\":{\"text\":\"" + std::string(1000, '[') + "\"}}\n"),
                HasSubstr("\"ok\":true"))
        << "brackets in a string are text";
    EXPECT_FALSE(nests_too_deep(R"({"a":"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["})"));
    EXPECT_TRUE(nests_too_deep("{\"a\\\\\":" + std::string(40, '[')));
}

TEST_F(JsonLines, ALineWithoutEndIsRefusedAndTheConnectionClosed) {
    const int fd = dial();
    std::thread sender([&] {
        const std::string chunk(65536, 'x');
        for (int i = 0; i < 64; ++i)
            if (::send(fd, chunk.data(), chunk.size(), MSG_NOSIGNAL) < 0) break;
    });
    EXPECT_THAT(line_from(fd), HasSubstr("longer than 1 MiB"));
    EXPECT_EQ(line_from(fd), "");
    sender.join();
    ::close(fd);
    EXPECT_TRUE(call(path, "echo", Json::object()));
}

TEST_F(JsonLines, BytesThatAreNoTextDoNotBreakAnAnswer) {
    const auto r = call(path, "bytes", Json::object());
    ASSERT_TRUE(r) << r.error().error.what;
    EXPECT_THAT((*r)["text"].get<std::string>(), HasSubstr("a\xef\xbf\xbd"));
    EXPECT_TRUE(call(path, "echo", {{"config", std::string("\xff\x80")}})) << "nor a request";
}

TEST_F(JsonLines, ProgressComesFirstAndADroppedReplyIsAnError) {
    std::vector<int> seen;
    ASSERT_TRUE(call(path, "steps", Json::object(), [&](const Json& p) { seen.push_back(p["at"]); }));
    EXPECT_THAT(seen, ::testing::ElementsAre(1, 2));
    const auto r = call(path, "drop", Json::object());
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, "failed");
}

TEST_F(JsonLines, AClientThatLeavesIsNoticedWhileItsCommandRuns) {
    const int fd = dial();
    const std::string ask = "{\"cmd\":\"hang\"}\n";
    ASSERT_EQ(::send(fd, ask.data(), ask.size(), 0), static_cast<ssize_t>(ask.size()));
    ::close(fd);
    while (left == 0) std::this_thread::yield();
    std::promise<bool> gone;
    io.post([&] {
        held.at(0).on_disconnect([this] { ++left; });  // it comes too late: told at once
        gone.set_value(held.at(0).client_gone());
    });
    EXPECT_TRUE(gone.get_future().get());
    EXPECT_EQ(left, 2);
}

TEST_F(JsonLines, TheSocketIsItsOwnersOnlyAndServedOnce) {
    struct stat st {};
    ASSERT_EQ(::stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
    EXPECT_EQ(listener_of(path), ::getpid());
    boost::asio::io_context other;
    const auto second = CommandServer::listen(other, path, registry);
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().what, HasSubstr("already"));
    EXPECT_TRUE(call(path, "echo", Json::object())) << "the first one goes on";
}

TEST(JsonLinesFiles, AStaleSocketIsReplacedAndNobodyThereIsUnreachable) {
    const std::string path = ::testing::TempDir() + "proa-stale-" + std::to_string(::getpid()) + ".sock";
    EXPECT_EQ(call(path, "x", Json::object()).error().code, "unreachable");
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    std::strncpy(a.sun_path, path.c_str(), sizeof(a.sun_path) - 1);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&a), sizeof(a)), 0);
    ::close(fd);
    EXPECT_EQ(listener_of(path), 0);
    boost::asio::io_context io;
    const CommandRegistry none;
    EXPECT_TRUE(CommandServer::listen(io, path, none));
    EXPECT_FALSE(CommandServer::listen(io, "/tmp/" + std::string(200, 'x'), none)) << "too long for sun_path";
    ::unlink(path.c_str());
}

TEST(JsonLinesAsync, AServerThatHangsIsATimeout) {
    const std::string path = ::testing::TempDir() + "proa-hang-" + std::to_string(::getpid()) + ".sock";
    boost::asio::io_context io;
    CommandRegistry registry;
    std::vector<Reply> held;
    registry.add("hang", [&](const Json&, const Reply& r) { held.push_back(r); });
    auto server = CommandServer::listen(io, path, registry);
    ASSERT_TRUE(server);
    std::string code;
    async_call(
        io, path, "hang", Json::object(), {},
        [&](tl::expected<Json, CallError> r) {
            code = r ? "answered" : r.error().code;
            io.stop();
        },
        std::chrono::milliseconds(50));
    io.run();
    EXPECT_EQ(code, "timeout");
    held.clear();
}

}  // namespace
}  // namespace proa::vmm
