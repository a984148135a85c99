// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/clock_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "perseus/client/agent_link.h"
#include "perseus/client/guard_link.h"
#include "perseus/client/test_agent.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using core::Megahertz;
using wire::ClockAnswer;
using wire::ClockRequest;
using namespace std::chrono_literals;

wire::Deadline soon() {
  return wire::deadline_in(10s);
}

class ClockLinkTest : public testing::Test {
 protected:
  std::unique_ptr<ClockLink> open(ClockLinkOptions options = {}) {
    auto link = ClockLink::open(std::make_unique<TestEndpoint>(agent_), std::move(options), soon());
    EXPECT_TRUE(link);
    return *std::move(link);
  }
  static void wait_for(const ClockHold& hold, HoldState state) {
    while (hold.state() != state) std::this_thread::yield();
  }
  TestAgent agent_;
};

TEST_F(ClockLinkTest, SaysHelloAndShowsTheGpus) {
  const auto link = open({.client = "rank 3"});
  EXPECT_EQ(std::get<wire::Hello>(agent_.requests().at(0)).client, "rank 3");
  ASSERT_EQ(link->gpus().size(), 1U);
  EXPECT_EQ(link->gpus()[0].uuid, "GPU-a");
  EXPECT_EQ(link->peer(), "the test agent (version test, backend none)");
  EXPECT_TRUE(link->connected());
}

TEST_F(ClockLinkTest, HoldsAClock) {
  const auto link = open();
  const auto hold = link->acquire("0", "gpt3", soon());
  ASSERT_TRUE(hold);
  EXPECT_EQ((*hold)->gpu(), "GPU-a");
  EXPECT_EQ((*hold)->baseline(), Megahertz(1305));
  EXPECT_EQ((*hold)->clocks().size(), 2U);
  EXPECT_EQ((*hold)->state(), HoldState::kWaiting);
  (*hold)->want(Megahertz(900));
  const wire::ClockWord word = agent_.wait_for_post(1);
  EXPECT_EQ(word, (wire::ClockWord{1, 900, static_cast<std::uint16_t>(ClockRequest::kClock)}));
  EXPECT_EQ((*hold)->state(), HoldState::kWaiting);
  for (const auto& [answer, state] : {std::pair(ClockAnswer::kApplied, HoldState::kApplied),
                                      std::pair(ClockAnswer::kRefused, HoldState::kRefused),
                                      std::pair(ClockAnswer::kFailed, HoldState::kFailed),
                                      std::pair(ClockAnswer::kYielded, HoldState::kYielded),
                                      std::pair(ClockAnswer::kUncontrollable, HoldState::kNoEffect),
                                      std::pair(ClockAnswer::kEnded, HoldState::kEnded)}) {
    agent_.answer(word, answer);
    EXPECT_EQ((*hold)->state(), state);
  }
  (*hold)->want_baseline();
  EXPECT_EQ(agent_.wait_for_post(2),
            (wire::ClockWord{2, 0, static_cast<std::uint16_t>(ClockRequest::kBaseline)}));
}

TEST_F(ClockLinkTest, AClockThatNoMailboxCanCarryIsNotCutToAnother) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  hold->want(Megahertz(65'536 + 900));
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 65'535);
  hold->want(Megahertz(0));  // not the baseline by accident
  EXPECT_EQ(agent_.wait_for_post(2),
            (wire::ClockWord{2, 65'535, static_cast<std::uint16_t>(ClockRequest::kClock)}));
}

TEST_F(ClockLinkTest, ReleasesAndDoesNothingAfterwards) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  ASSERT_TRUE(link->release(*hold, soon()));
  EXPECT_EQ(agent_.count("release"), 1U);
  EXPECT_EQ(hold->state(), HoldState::kEnded);
  EXPECT_EQ(hold->ended_reason(), "released");
  ASSERT_TRUE(link->release(*hold, soon()));
  EXPECT_EQ(agent_.count("release"), 1U);
}

TEST_F(ClockLinkTest, HandsOnTheRefusal) {
  agent_.refuse_acquire = wire::Refusal{ErrorCode::kBusy, "GPU 0 is leased to bloom (pid 5, uid 7)"};
  const auto link = open();
  const auto hold = link->acquire("0", "", soon());
  ASSERT_FALSE(hold);
  EXPECT_EQ(hold.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(hold.error().text(), "GPU 0 is leased to bloom (pid 5, uid 7)");
}

TEST_F(ClockLinkTest, NeverWaitsBeyondTheDeadline) {
  agent_.answer_nothing = true;
  const auto link = open();
  EXPECT_EQ(link->acquire("0", "", wire::deadline_in(1ms)).error().text(),
            "the test agent did not answer in time");
  EXPECT_EQ(link->request(wire::GetStatus{}, wire::Deadline{}).error().code(), ErrorCode::kTimeout);
}

TEST_F(ClockLinkTest, ALeaseThatComesTooLateIsGivenBack) {
  agent_.answer_nothing = true;
  const auto link = open();
  EXPECT_FALSE(link->acquire("0", "", wire::deadline_in(20ms)));
  agent_.wait_until([&] { return agent_.count("acquire") == 1; });
  agent_.answer_nothing = false;
  // The late answer; it has no descriptor, which is as useless.
  agent_.send(wire::Acquired{
      .lease = 77, .gpu = "GPU-a", .baseline = {}, .clocks = {Megahertz(900)}, .time_to_live = 10s});
  agent_.wait_until([&] { return agent_.count("release") == 1; });
  EXPECT_EQ(std::get<wire::Release>(agent_.requests().back()).lease, 77U);
}

TEST_F(ClockLinkTest, RenewsByItself) {  // fault table, row 5
  agent_.time_to_live = 1s;              // the least that the protocol allows: renewed each third of it
  const auto link = open();
  ASSERT_TRUE(link->acquire("0", "", soon()));
  agent_.wait_until([&] { return agent_.count("renew") >= 2; });
}

TEST_F(ClockLinkTest, ALeaseThatWasTakenBackIsAskedForAgain) {  // fault table, rows 4 and 12
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "gpt3", soon());
  hold->want(Megahertz(900));
  agent_.wait_for_post(1);
  agent_.wait_until([&] {
    agent_.refuse_acquire = wire::Refusal{ErrorCode::kBusy, "quiesced by an administrator"};
    return true;
  });
  agent_.send(wire::Ended{1, "quiesced by an administrator"});
  agent_.wait_until([&] { return agent_.count("acquire") >= 3; });
  EXPECT_EQ(hold->state(), HoldState::kLost);
  agent_.wait_until([&] { return agent_.refuse_acquire.reset(), true; });
  while (hold->reacquired() == 0) std::this_thread::yield();
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 900);
}

TEST_F(ClockLinkTest, ALeaseThatAnotherWriterDisturbsIsNot) {  // invariant I4
  for (const auto& [answer, state] : {std::pair(ClockAnswer::kYielded, HoldState::kYielded),
                                      std::pair(ClockAnswer::kUncontrollable, HoldState::kNoEffect)}) {
    const auto link = open();
    ClockHold* const hold = *link->acquire("0", "", soon());
    hold->want(Megahertz(900));
    agent_.answer(agent_.wait_for_post(1), answer);
    const std::size_t asked = agent_.count("acquire");
    agent_.send(wire::Ended{asked, "somebody else sets this clock"});
    while (hold->ended_reason().empty()) std::this_thread::yield();
    EXPECT_EQ(hold->ended_reason(), "somebody else sets this clock");
    EXPECT_EQ(hold->state(), state);
    EXPECT_TRUE(link->release(*hold, soon()));
    EXPECT_EQ(agent_.count("release"), 0U);
    EXPECT_TRUE(link->request(wire::GetStatus{}, soon()));
    EXPECT_EQ(agent_.count("acquire"), asked);
  }
}

TEST_F(ClockLinkTest, ALeaseThatTheOtherEndHasForgottenIsAskedForAgain) {
  agent_.time_to_live = 1s;
  agent_.refuse_renew = wire::Refusal{ErrorCode::kNotFound, "there is no lease 1"};
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  while (hold->reacquired() == 0) std::this_thread::yield();
}

TEST_F(ClockLinkTest,
       AfterTheOtherEndsDeathItTakesTheLeaseAgainAndPostsWhatWasWanted) {  // fault table, row 8
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "gpt3", soon());
  for (std::uint32_t death = 1; death <= 5; ++death) {
    hold->want(Megahertz(900 + 15 * (death % 2)));
    const wire::ClockWord before = agent_.wait_for_post(1);
    agent_.answer(before, ClockAnswer::kApplied);
    wait_for(*hold, HoldState::kApplied);
    agent_.die();
    const wire::ClockWord again = agent_.wait_for_post(1);
    EXPECT_EQ(again.mhz, before.mhz);
    EXPECT_EQ(hold->reacquired(), death);
  }
  EXPECT_EQ(std::get<wire::Acquire>(agent_.requests().back()).job, "gpt3");
}

TEST_F(ClockLinkTest, WhileNobodyIsThereWantsAreKept) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  agent_.refuse_dial = true;
  agent_.die();
  wait_for(*hold, HoldState::kLost);
  hold->want(Megahertz(900));
  hold->want(Megahertz(915));
  hold->touch_hook();
  EXPECT_FALSE(link->connected());
  EXPECT_EQ(link->release(*hold, soon()).error().text(),
            "there is no connection to the test agent, which restores by itself");
  agent_.wait_until([&] { return agent_.dials() >= 3; });  // it goes on dialling
}

TEST_F(ClockLinkTest, ALeaseThatIsHeldByAnotherIsAskedForUntilItIsFree) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  hold->want(Megahertz(900));
  agent_.wait_for_post(1);
  agent_.refuse_acquire = wire::Refusal{ErrorCode::kBusy, "leased"};
  agent_.die();
  agent_.wait_until([&] { return agent_.count("acquire") >= 3; });
  EXPECT_EQ(hold->state(), HoldState::kLost);
  agent_.wait_until([&] { return agent_.refuse_acquire.reset(), true; });
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 900);
}

TEST_F(ClockLinkTest, ALeaseThatIsForbiddenNowIsNotAskedForAgain) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  agent_.refuse_acquire = wire::Refusal{ErrorCode::kPermission, "the grant has expired"};
  agent_.die();
  wait_for(*hold, HoldState::kEnded);
  EXPECT_EQ(hold->ended_reason(), "the grant has expired");
}

TEST_F(ClockLinkTest, NonsenseFromTheOtherEndIsTheEndOfTheConnection) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  agent_.send_bytes("{\"type\":\"ok\"");
  while (hold->reacquired() == 0) std::this_thread::yield();
  agent_.send(wire::Ok{});  // an answer to nothing is dropped
  EXPECT_TRUE(link->request(wire::GetStatus{}, soon()));
}

TEST_F(ClockLinkTest, AFailedClockIsPostedAgainAtTheNextRenewal) {
  agent_.time_to_live = 1s;
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  hold->want(Megahertz(900));
  agent_.answer(agent_.wait_for_post(1), ClockAnswer::kFailed);
  EXPECT_EQ(agent_.wait_for_post(2).mhz, 900);
}

/// Wants from one thread while the connection dies again and again: the last want is what counts in the end.
TEST_F(ClockLinkTest, NoWantIsLostWhileTheMailboxIsReplaced) {
  const auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) static_cast<void>(hold->state());
  });
  for (std::uint32_t round = 0; round < 10; ++round) {
    std::thread killer([&] { agent_.die(); });
    for (std::uint32_t i = 0; i < 2000; ++i) {
      hold->want(Megahertz(900 + 15 * (i % 2)));
      hold->touch_hook();
    }
    killer.join();
    const std::uint32_t last = 1000 + round;
    hold->want(Megahertz(last));
    while (agent_.wait_for_post(1).mhz != last) std::this_thread::yield();
  }
  stop = true;
  reader.join();
}

TEST_F(ClockLinkTest, AForkDoesNothingAndKeepsNothingOpen) {
  auto link = open();
  ClockHold* const hold = *link->acquire("0", "", soon());
  const std::size_t requests = agent_.requests().size();
  const pid_t child = ::fork();
  if (child == 0) {
    hold->want(Megahertz(915));
    hold->touch_hook();
    const bool quiet = hold->state() == HoldState::kLost && !link->connected() && link->gpus().empty() &&
                       link->acquire("0", "", soon()).error().code() == ErrorCode::kUnsupported &&
                       link->release(*hold, soon()).error().code() == ErrorCode::kUnsupported;
    link.reset();
    ::_exit(quiet ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(agent_.requests().size(), requests);
  hold->want(Megahertz(900));
  EXPECT_EQ(agent_.wait_for_post(1),
            (wire::ClockWord{1, 900, static_cast<std::uint16_t>(ClockRequest::kClock)}));
  // The agent sees the end although a child lives on.
  const pid_t living = ::fork();
  if (living == 0) {
    for (;;) ::pause();
  }
  link.reset();
  ::kill(living, SIGKILL);
  ::waitpid(living, nullptr, 0);
}

TEST_F(ClockLinkTest, WhatCannotBeOpenedSaysWhy) {
  agent_.refuse_dial = true;
  EXPECT_EQ(ClockLink::open(std::make_unique<TestEndpoint>(agent_), {}, soon()).error().text(),
            "nobody listens at this socket");
  EXPECT_EQ(
      ClockLink::open(std::make_unique<AgentEndpoint>("/nonexistent/agent.sock"), {}, soon()).error().text(),
      "/nonexistent/agent.sock: there is no such socket; is perseus-agent running? `perseus doctor` tells "
      "more");
}

TEST(GuardEndpoint, SaysWhyItCannotStartAGuardian) {
  const auto dial = [](const char* program) {
    return GuardEndpoint({.program = program, .backend = {}, .state_dir = {}}).dial(soon());
  };
  EXPECT_EQ(dial("/nonexistent/perseus-agent").error().text(),
            "/nonexistent/perseus-agent: cannot start the guardian: No such file or directory");
  EXPECT_EQ(dial("/etc/passwd").error().code(), ErrorCode::kPermission);
  EXPECT_EQ(dial("/bin/false").error().text(),
            "the guardian ended at once; what it said stands on standard error");
}

TEST(FindAgentProgram, TakesWhatTheEnvironmentNames) {
  ASSERT_EQ(::setenv("PERSEUS_AGENT_BIN", "/bin/true", 1), 0);
  EXPECT_EQ(find_agent_program().value(), "/bin/true");
  ASSERT_EQ(::setenv("PERSEUS_AGENT_BIN", "/nonexistent", 1), 0);
  EXPECT_EQ(find_agent_program().error().text(), "PERSEUS_AGENT_BIN: there is no program /nonexistent");
  ASSERT_EQ(::unsetenv("PERSEUS_AGENT_BIN"), 0);
}

}  // namespace
}  // namespace perseus::client
