// The durable record: what one object did another knows, and two that race get different answers.
#include "migrate/session.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "tests/support/temporary.hpp"

namespace proa::migrate {
namespace {

SessionAnswer apply(const Session& s, SessionEvent e) {
    const auto r = s.apply(e);
    EXPECT_TRUE(r) << r.error().what;
    return r ? *r : SessionAnswer::None;
}

TEST(Session, AnswersAreTheSameAfterARestart) {
    test::TemporaryDirectory d;
    const Token moved = random_token(), refused = random_token();
    const auto fresh = [&](const Token& t) { return Session(d.path(), t); };  // as a restarted daemon has it
    EXPECT_EQ(apply(fresh(moved), SessionEvent::Prepared), SessionAnswer::None);
    EXPECT_EQ(apply(fresh(refused), SessionEvent::Prepared), SessionAnswer::None);
    EXPECT_EQ(apply(fresh(moved), SessionEvent::Claimed), SessionAnswer::Granted);
    EXPECT_EQ(apply(fresh(moved), SessionEvent::Asked), SessionAnswer::DontKnow) << "it may run, or not yet";
    EXPECT_EQ(apply(fresh(moved), SessionEvent::Ran), SessionAnswer::None);
    EXPECT_EQ(apply(fresh(moved), SessionEvent::Asked), SessionAnswer::Started);
    EXPECT_EQ(apply(fresh(refused), SessionEvent::Asked), SessionAnswer::Never);
    EXPECT_EQ(apply(fresh(refused), SessionEvent::Claimed), SessionAnswer::Denied);
    EXPECT_EQ(apply(fresh(refused), SessionEvent::Asked), SessionAnswer::Never);
}

TEST(Session, OneThatIsNotKnownPromisesNothingAndGrantsNothing) {
    test::TemporaryDirectory d;
    const Session s(d.path(), random_token());
    EXPECT_EQ(apply(s, SessionEvent::Asked), SessionAnswer::DontKnow);
    EXPECT_EQ(apply(s, SessionEvent::Claimed), SessionAnswer::Denied);
    EXPECT_EQ(s.state(), SessionState::Unknown);
}

TEST(Session, IsUsedOnce) {
    test::TemporaryDirectory d;
    const Session s(d.path(), random_token());
    EXPECT_EQ(apply(s, SessionEvent::Prepared), SessionAnswer::None);
    EXPECT_EQ(apply(s, SessionEvent::Prepared), SessionAnswer::Denied);
}

TEST(Session, AWithdrawnStartIsAPromise) {
    test::TemporaryDirectory d;
    const Session s(d.path(), random_token());
    (void)apply(s, SessionEvent::Prepared);
    (void)apply(s, SessionEvent::Claimed);
    (void)apply(s, SessionEvent::Withdrawn);
    EXPECT_EQ(apply(s, SessionEvent::Asked), SessionAnswer::Never);
}

TEST(Session, AClaimAndAQuestionThatRaceNeverBothWin) {
    test::TemporaryDirectory d;
    unsigned granted = 0;
    for (int n = 0; n < 200; ++n) {
        const Token t = random_token();
        (void)apply(Session(d.path(), t), SessionEvent::Prepared);
        std::atomic<int> ready{0};
        SessionAnswer claim{}, question{};
        const auto race = [&](SessionEvent e, SessionAnswer& a) {
            const Session s(d.path(), t);
            for (++ready; ready < 2;) std::this_thread::yield();
            a = apply(s, e);
        };
        std::thread other([&] { race(SessionEvent::Asked, question); });
        race(SessionEvent::Claimed, claim);
        other.join();
        EXPECT_NE(claim == SessionAnswer::Granted, question == SessionAnswer::Never);
        granted += claim == SessionAnswer::Granted;
    }
    RecordProperty("granted", static_cast<int>(granted));
}

TEST(Session, ADirectoryThatCannotBeWrittenIsAnErrorAndNotAnAnswer) {
    const Session s("/nonexistent/sessions", random_token());
    const auto r = s.apply(SessionEvent::Prepared);
    ASSERT_FALSE(r);
    EXPECT_FALSE(r.error().remedy.empty());
    EXPECT_FALSE(s.apply(SessionEvent::Asked));
}

TEST(Session, OldRecordsAreForgottenAndNewOnesKept) {
    test::TemporaryDirectory d;
    const Token t = random_token();
    (void)apply(Session(d.path(), t), SessionEvent::Prepared);
    Session::prune(d.path(), std::chrono::hours(1));
    EXPECT_EQ(Session(d.path(), t).state(), SessionState::Open);
    for (const auto& f : std::filesystem::directory_iterator(d.path()))
        std::filesystem::last_write_time(f.path(),
                                         std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
    Session::prune(d.path(), std::chrono::hours(1));
    EXPECT_EQ(Session(d.path(), t).state(), SessionState::Unknown);
}

}  // namespace
}  // namespace proa::migrate
