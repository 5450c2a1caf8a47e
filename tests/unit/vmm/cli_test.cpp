// The `proa` program as scripts see it: output, exit codes, messages; against a stand-in for proad on a socket. What real
// guests do is tests/system/cases_cli.py's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "vmm/json_lines.hpp"

namespace proa::vmm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Ended {
    int code;
    std::string out;
};

class Cli : public ::testing::Test {
  protected:
    void SetUp() override {
        base = ::testing::TempDir() + "proa-cli-" + std::to_string(::getpid());
        socket = base + ".sock";
        commands.add("list", [this](const Json&, const Reply& r) { r.ok({{"guests", guests}}); });
        commands.add("host", [](const Json&, const Reply& r) {
            r.ok({{"pcpus", 2}, {"cntfrq", 1000.0}, {"uptime_s", 1.5}});
        });
        commands.add("create", [this](const Json& a, const Reply& r) {
            asked = a;
            r.ok({{"name", "g1"},
                  {"slot", 1},
                  {"state", "running"},
                  {"warnings", {"a.cfg:3: unknown key `x` is ignored"}}});
        });
        commands.add("guest", [this](const Json& a, const Reply& r) {
            asked = a;
            if (a["guest"] == "none")
                return r.fail("not-found", {"no guest named none on this host", "proa list"});
            if (!refusal.empty()) return r.fail(refusal, {"because", "do this"});
            r.ok();
        });
        auto s = CommandServer::listen(io, socket, commands);
        ASSERT_TRUE(s);
        server = std::move(*s);
        thread = std::thread([this] {
            const auto work = boost::asio::make_work_guard(io);
            io.run();
        });
    }
    void TearDown() override {
        io.stop();
        thread.join();
        server.reset();
        for (const char* made : {".cfg", ".pid"}) ::unlink((base + made).c_str());
    }
    Ended run(const std::string& arguments, const std::string& program = PROA_PROGRAM) const {
        FILE* p = ::popen((program + " --socket " + socket + " " + arguments + " 2>&1").c_str(), "r");
        Ended e{-1, ""};
        for (char b[4096]; std::size_t n = ::fread(b, 1, sizeof(b), p);) e.out.append(b, n);
        const int status = ::pclose(p);
        if (WIFEXITED(status)) e.code = WEXITSTATUS(status);
        return e;
    }
    // As run(), with a process that interrupt() finds: a handler that calls it knows that proa waits for its answer.
    Ended run_interruptible(const std::string& arguments) const {
        return run(arguments, "echo $$ > " + base + ".pid; exec " + PROA_PROGRAM);
    }
    void interrupt() const {
        int pid = 0;
        std::ifstream(base + ".pid") >> pid;
        ASSERT_GT(pid, 0);
        ::kill(pid, SIGINT);
    }
    std::string config(const std::string& text) const {
        std::ofstream(base + ".cfg") << text;
        return base + ".cfg";
    }
    std::string base, socket, refusal;
    boost::asio::io_context io;
    CommandRegistry commands;
    Json guests = Json::array(
             {{{"name", "g1"}, {"slot", 1}, {"state", "running"}, {"vcpus", 1}, {"memory_mib", 64}}}),
         asked;
    std::unique_ptr<CommandServer> server;
    std::thread thread;
};

TEST_F(Cli, ExitCodesTellScriptsWhatHappened) {
    EXPECT_EQ(run("pause g1").code, 0);
    EXPECT_EQ(run("pause none").code, 3);
    EXPECT_EQ(run("list none").code, 3);
    const std::pair<const char*, int> rows[] = {
        {"failed", 1}, {"invalid", 2}, {"refused", 4}, {"cancelled", 5}, {"in-doubt", 6}};
    for (const auto& [code, exit] : rows) {
        refusal = code;
        const Ended e = run("pause g1");
        EXPECT_EQ(e.code, exit) << code;
        EXPECT_EQ(e.out, "proa: because\n  do this\n");
    }
    for (const char* wrong :
         {"", "frobnicate", "pause", "pause g1 --frobnicate", "top -d none", "migrate g1",
          "migrate g1 h --downtime 0", "protect g1", "protect", "protect g1 h --interval never",
          "protect g1 h --no-network-buffer", "protect g1 h -w 1", "protect g1 h --status", "unprotect",
          "failover", "migrate g1 h --compress 99", "create /nonexistent", "help frobnicate",
          "completion fish"})
        EXPECT_EQ(run(wrong).code, 2) << wrong;
    const Ended away = run("", std::string(PROA_PROGRAM) + " list --socket /nonexistent/x; exit $? #");
    EXPECT_EQ(away.code, 8);
    EXPECT_THAT(run("help exit-codes").out,
                ::testing::AllOf(HasSubstr("  4  refused"), HasSubstr("  8  proad cannot be reached")));
}

TEST_F(Cli, KeysAreMadeByTheProgramBesideIt) {
    const std::string made = base + ".keys", elsewhere = base + ".elsewhere";
    const Ended keys = run("keys init one 10.0.0.2 --dir " + made);
    EXPECT_EQ(keys.code, 0) << keys.out;
    EXPECT_THAT(keys.out, HasSubstr("copy to /etc/proa/keys on 10.0.0.2"));
    for (const char* host : {"one", "10.0.0.2"})
        for (const char* file : {"ca.pem", "host.pem", "host.key"})
            EXPECT_TRUE(std::filesystem::exists(made + "/" + host + "/" + file)) << host << file;
    const Ended again = run("keys init one --dir " + made);
    EXPECT_EQ(again.code, 1) << "a host's key is not made anew";
    std::filesystem::create_directory(elsewhere);
    std::filesystem::copy(PROA_PROGRAM, elsewhere + "/proa");
    const Ended alone = run("keys init one --dir " + made + "/x", elsewhere + "/proa");
    EXPECT_EQ(alone.code, 1);
    EXPECT_THAT(alone.out, ::testing::AllOf(HasSubstr(elsewhere + "/proa-keys"), HasSubstr("beside proa")));
    std::filesystem::remove_all(made);
    std::filesystem::remove_all(elsewhere);
}

TEST_F(Cli, EveryVerbHasHelp) {
    const Ended all = run("help");
    EXPECT_EQ(all.code, 0);
    for (const char* verb :
         {"create",  "list",    "info",      "console",  "pause",     "unpause",    "shutdown",
          "reboot",  "destroy", "vcpu-list", "vcpu-pin", "dirty-log", "dmesg",      "top",
          "migrate", "protect", "unprotect", "failover", "keys",      "completion", "help"}) {
        EXPECT_THAT(all.out, HasSubstr(verb));
        const Ended one = run(std::string("help ") + verb), same = run(std::string(verb) + " --help");
        EXPECT_EQ(one.code, 0);
        EXPECT_THAT(one.out, HasSubstr(std::string("proa ") + verb)) << "names itself";
        EXPECT_EQ(same.code, 0);
    }
    EXPECT_THAT(run("help config").out, HasSubstr("on_crash"));
    EXPECT_THAT(run("--version").out, HasSubstr("proa 0"));
}

TEST_F(Cli, CreateSendsTheFileAndShowsWarnings) {
    const Ended e = run("create " + config("name='g1'\nkernel='/k'\n") + " memory=64 'extra=\"a b\"' --paused");
    EXPECT_EQ(e.code, 0) << e.out;
    EXPECT_EQ(e.out, "proa: warning: a.cfg:3: unknown key `x` is ignored\ng1: running, ID 1\n");
    EXPECT_EQ(asked["config"], "name='g1'\nkernel='/k'\n");
    EXPECT_EQ(asked["overrides"], Json::array({"memory=64", "extra=\"a b\""}));
    EXPECT_EQ(asked["paused"], true);
}

// It runs only when its console is joined; one that can't be joined, or whose creator gives up before, is not left behind.
TEST_F(Cli, CreateWithItsConsoleLeavesNothingThatNeverRan) {
    std::vector<Json> said;
    commands.add("guest", [&](const Json& a, const Reply& r) {
        said.push_back(a["cmd"]);
        r.ok();
    });
    commands.add("socket", [&](const Json&, const Reply& r) { r.ok({{"path", socket}}); });
    const Ended none = run("create -c " + config("name='g1'\nkernel='/k'\n"));
    EXPECT_EQ(none.code, 2) << none.out;
    EXPECT_EQ(asked["paused"], true);
    EXPECT_THAT(none.out, ::testing::AllOf(HasSubstr("unknown command console"), Not(HasSubstr("running"))));
    EXPECT_EQ(said, std::vector<Json>{"destroy"});

    said.clear();
    commands.add("console", [&](const Json&, const Reply& r) {
        interrupt();
        r.upgrade(Json::object(), [](auto) {});
    });
    const Ended left = run_interruptible("create -c " + config("name='g1'\nkernel='/k'\n"));
    EXPECT_EQ(left.code, 5) << left.out;
    EXPECT_THAT(left.out, HasSubstr("nothing of the guest stays"));
    EXPECT_EQ(said, std::vector<Json>{"destroy"});

    said.clear();
    commands.add("console", [](const Json&, const Reply& r) { r.upgrade(Json::object(), [](auto) {}); });
    const Ended ran = run("create -c " + config("name='g1'\nkernel='/k'\n"));
    EXPECT_EQ(ran.code, 0) << ran.out;
    EXPECT_THAT(ran.out, HasSubstr("g1: running, ID 1\n[connected to g1; Ctrl-] leaves]\n"));
    EXPECT_EQ(said, std::vector<Json>{"unpause"});
}

// Ctrl-C while proad works on it: proad sees that nobody waits, or its answer was under way already. Never both, never neither.
TEST_F(Cli, AnInterruptedCreateWithItsConsoleIsTakenBack) {
    std::vector<Json> said;
    bool nobody_waits = false;
    commands.add("guest", [&](const Json& a, const Reply& r) {
        said.push_back(a["cmd"]);
        r.ok();
    });
    commands.add("socket", [&](const Json&, const Reply& r) { r.ok({{"path", socket}}); });
    commands.add("console", [](const Json&, const Reply& r) { r.upgrade(Json::object(), [](auto) {}); });
    commands.add("create", [&](const Json&, const Reply& r) {
        r.on_disconnect([&, r] { nobody_waits = true; });
        interrupt();
    });
    const Ended pending = run_interruptible("create -c " + config("name='g1'\nkernel='/k'\n"));
    EXPECT_EQ(pending.code, 5) << pending.out;
    EXPECT_TRUE(nobody_waits);
    EXPECT_EQ(said, std::vector<Json>{});

    commands.add("create", [&](const Json&, const Reply& r) {
        interrupt();
        r.ok({{"name", "g1"}, {"slot", 1}, {"state", "paused"}});
    });
    const Ended answered = run_interruptible("create -c " + config("name='g1'\nkernel='/k'\n"));
    EXPECT_EQ(answered.code, 5) << answered.out;
    EXPECT_EQ(said, std::vector<Json>{"destroy"});
    EXPECT_EQ(answered.out, "proa: cancelled; nothing of the guest stays\n");
}

// Somebody saw it paused and let it run.
TEST_F(Cli, CreateWithItsConsoleKeepsAGuestThatRunsAlready) {
    commands.add("socket", [&](const Json&, const Reply& r) { r.ok({{"path", socket}}); });
    commands.add("console", [](const Json&, const Reply& r) { r.upgrade(Json::object(), [](auto) {}); });
    refusal = "refused";
    const Ended e = run("create -c " + config("name='g1'\nkernel='/k'\n"));
    EXPECT_EQ(e.code, 0) << e.out;
    EXPECT_EQ(asked["cmd"], "unpause");
    EXPECT_THAT(e.out, HasSubstr("g1: running, ID 1\n[connected to g1"));
}

TEST_F(Cli, ADryRunChecksWithoutProad) {
    server.reset();
    const Ended good = run("create --dry-run " + config("name='g1'\nkernel='/k'\nnonsense=1\n"));
    EXPECT_EQ(good.code, 0) << good.out;
    EXPECT_THAT(good.out, HasSubstr(".cfg:3: unknown key `nonsense` is ignored"));
    const Ended bad = run("create -n " + config("name='g1'\nkernel='/k'\n\nvcpus=99\n"));
    EXPECT_EQ(bad.code, 2);
    EXPECT_THAT(bad.out, HasSubstr(".cfg:4: vcpus: must be a number from 1 to 8"));
}

TEST_F(Cli, JsonIsOneDocumentALine) {
    const Json l = Json::parse(run("list --json").out);
    EXPECT_EQ(l.at(0).at("name"), "g1");
    EXPECT_EQ(Json::parse(run("--json info").out).at("pcpus"), 2);
    const std::string rounds = run("top -d 1 -n 1 --json").out;
    EXPECT_EQ(Json::parse(rounds).at("guests").at(0).at("name"), "g1");
}

TEST_F(Cli, ShutdownWaitsForTheGuestToGo) {
    const Ended slow = run("shutdown g1 --wait --timeout 1");
    EXPECT_EQ(slow.code, 7);
    EXPECT_THAT(slow.out, HasSubstr("has not shut down within 1 s"));
    guests[0]["state"] = "stopped";
    EXPECT_EQ(run("shutdown g1 -w").code, 0) << "preserved";
    guests = Json::array();
    EXPECT_EQ(run("shutdown g1 -w").code, 0);
    EXPECT_EQ(run("reboot g1 --force").code, 0);
    EXPECT_EQ(asked, (Json{{"guest", "g1"}, {"cmd", "reboot"}, {"args", {{"force", true}}}}));
}

TEST_F(Cli, TheCompletionKnowsVerbsGuestsAndOptions) {
    const auto complete = [&](const std::string& words) {
        std::ofstream(base + ".cfg") << run("completion bash").out << "proa() { " << PROA_PROGRAM
                                     << " --socket " << socket << " \"$@\"; }\nCOMP_WORDS=(" << words
                                     << ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
                                     << "_proa\necho \" ${COMPREPLY[*]} \"\n";
        FILE* p = ::popen(("bash " + base + ".cfg 2>&1").c_str(), "r");
        std::string out;
        for (char b[4096]; std::size_t n = ::fread(b, 1, sizeof(b), p);) out.append(b, n);
        ::pclose(p);
        return out;
    };
    EXPECT_THAT(complete("proa ''"), ::testing::AllOf(HasSubstr(" create "), HasSubstr(" vcpu-pin ")));
    EXPECT_EQ(complete("proa pau"), " pause \n");
    EXPECT_EQ(complete("proa --json pause ''"), " g1 \n");
    EXPECT_EQ(complete("migrate ''"), " g1 \n");
    EXPECT_THAT(complete("proa migrate g1 --d"),
                ::testing::AllOf(HasSubstr("--downtime"), HasSubstr("--dirty-log"), Not(HasSubstr("--json"))));
    EXPECT_EQ(complete("proa migrate g1 h --no-converge g"), " giveup \n");
    EXPECT_EQ(complete("proa protect ''"), " g1 \n");
    EXPECT_EQ(complete("proa failover ''"), " g1 \n");
    EXPECT_EQ(complete("proa protect g1 h --interval a"), " adaptive \n");
    // Every option the completion offers is one the verb has.
    for (const char* verb : {"create", "shutdown", "reboot", "dmesg", "top", "migrate", "protect"}) {
        const std::string help = run(std::string(verb) + " --help").out,
                          offered = complete(std::string("proa ") + verb + " -");
        std::istringstream words(offered);
        for (std::string w; words >> w;) {
            if (w == "--json" || w == "--socket") continue;  // proa's own
            EXPECT_THAT(help, HasSubstr(w)) << verb;
        }
    }
}

TEST_F(Cli, AnInterruptedMigrationIsCancelledAndSaysSo) {
    std::unique_ptr<Reply> waiting;
    commands.add("migrate", [&](const Json&, const Reply& r) {
        waiting = std::make_unique<Reply>(r);
        interrupt();
    });
    commands.add("guest", [&](const Json& a, const Reply& r) {
        asked = a;
        waiting->fail("cancelled", {"cancelled", ""});
        waiting.reset();
        r.ok();
    });
    const Ended e = run_interruptible("migrate g1 other");
    EXPECT_EQ(e.code, 5) << e.out;
    EXPECT_EQ(asked["cmd"], "migrate-cancel");
    EXPECT_THAT(e.out, HasSubstr("g1 stays here"));
}

TEST_F(Cli, ProtectSendsItsOptionsShowsProgressAndSaysWhenItIsDone) {
    commands.add("protect", [&](const Json& a, const Reply& r) {
        asked = a;
        r.progress({{"phase", "syncing"}, {"percent", 40}, {"sent_bytes", 1048576}});
        r.ok();
    });
    const Ended e = run("protect g1 other --interval 0.05s --disk vda=/replica --progress");
    EXPECT_EQ(e.code, 0) << e.out;
    EXPECT_THAT(e.out, ::testing::AllOf(HasSubstr(" 40%  syncing  1.0 MB sent"),
                                        HasSubstr("g1 is protected by other\n")));
    EXPECT_EQ(asked["interval_ms"], 50.0);
    EXPECT_EQ(asked["disks"], Json::array({{{"name", "virtio0:block"}, {"path", "/replica"}}}));
    EXPECT_EQ(run("protect g1 other").out, "g1 is protected by other\n") << "no bar where nobody watches";
    EXPECT_EQ(run("protect g1 other --json").out, "{}\n");
    commands.add("protect", [&](const Json&, const Reply& r) {
        r.fail("refused", {"other: there is no bridge br0", "create it there"});
    });
    const Ended no = run("protect g1 other");
    EXPECT_EQ(no.code, 4);
    EXPECT_EQ(no.out, "proa: other: there is no bridge br0\n  create it there\n");
}

TEST_F(Cli, ProtectionIsShownAsATableOrAsJson) {
    commands.add("protect-status", [&](const Json& a, const Reply& r) {
        asked = a;
        r.ok({{"guests", Json::array({{{"name", "g1"},
                                       {"state", "protected"},
                                       {"events", Json::array({{{"at_ms", 1000}, {"what", "began"}}})}}})}});
    });
    const Ended all = run("protect --status");
    EXPECT_EQ(all.code, 0);
    EXPECT_THAT(all.out, ::testing::AllOf(HasSubstr("g1 "), HasSubstr("protected"), Not(HasSubstr("began"))));
    EXPECT_EQ(asked, Json::object());
    EXPECT_THAT(run("protect g1 --status").out, HasSubstr("1.000 s  began")) << "one guest: with its events";
    EXPECT_EQ(asked, (Json{{"guest", "g1"}}));
    const std::string twice = run("protect --status --json -w 0.1 -n 2").out;
    const auto newline = twice.find('\n');
    EXPECT_EQ(Json::parse(twice.substr(0, newline)), Json::parse(twice.substr(newline + 1)));
}

TEST_F(Cli, UnprotectAndFailoverAnswerWithTheirExitCodes) {
    for (const char* verb : {"unprotect", "failover"}) {
        commands.add(verb, [&](const Json& a, const Reply& r) {
            asked = a;
            if (!refusal.empty()) return r.fail(refusal, {"because", "do this"});
            r.ok();
        });
        refusal = "";
        const Ended done = run(std::string(verb) + " g1");
        EXPECT_EQ(done.code, 0);
        EXPECT_THAT(done.out, HasSubstr("unprotected\n"));
        EXPECT_EQ(asked, (Json{{"guest", "g1"}}));
        refusal = "refused";
        EXPECT_EQ(run(std::string(verb) + " g1").code, 4);
    }
}

TEST_F(Cli, AnInterruptedProtectionLeavesTheGuestUnprotected) {
    std::unique_ptr<Reply> waiting;
    bool too_late = false;
    commands.add("protect", [&](const Json&, const Reply& r) {
        waiting = std::make_unique<Reply>(r);
        interrupt();
    });
    commands.add("guest", [&](const Json& a, const Reply& r) {
        asked = a;
        if (waiting && too_late) waiting->ok();  // it was protected at this very moment
        if (waiting && !too_late) waiting->fail("cancelled", {"cancelled", ""});
        waiting.reset();
        r.ok();
    });
    for (const bool late : {false, true}) {
        too_late = late;
        asked = Json::object();
        const Ended e = run_interruptible("protect g1 other");
        EXPECT_EQ(e.code, 5) << e.out;
        EXPECT_EQ(asked["cmd"], "unprotect");
        EXPECT_THAT(e.out, HasSubstr("g1 goes on here, unprotected"));
    }
}

}  // namespace
}  // namespace proa::vmm
