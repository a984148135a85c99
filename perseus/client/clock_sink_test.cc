// SPDX-License-Identifier: Apache-2.0
//
// Where clocks go: a file, or an agent that comes and goes.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "perseus/client/hold_sink.h"
#include "perseus/client/log_sink.h"
#include "perseus/client/test_agent.h"
#include "perseus/format/files.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using core::Kind;
using core::Seconds;
using testing::HasSubstr;
using namespace std::chrono_literals;

class LogSinkTest : public testing::Test {
 protected:
  LogSinkTest() : path_(testing::TempDir() + "clocks-" + std::to_string(::getpid()) + ".jsonl") {
    std::filesystem::remove(path_);
  }
  ~LogSinkTest() override { std::filesystem::remove(path_); }
  LogSinkTest(const LogSinkTest&) = delete;
  LogSinkTest& operator=(const LogSinkTest&) = delete;
  std::string text() const { return *format::read_file(path_, 1 << 20); }

  std::string path_;
  lease::ManualTime time_;
};

TEST_F(LogSinkTest, EachChangeIsALine) {
  auto sink = *LogSink::open(path_, time_);
  sink->post({.mhz = 1410, .step = 7, .kind = Kind::kForward, .stage = 2, .microbatch = 3});
  time_.advance(34'512us);
  sink->post({.mhz = 0, .step = 7});
  EXPECT_EQ(sink->wanted(), 0U);
  EXPECT_EQ(text(), "");  // only work() writes
  sink->work();
  EXPECT_EQ(text(),
            "{\"t_s\":1.000000,\"step\":7,\"kind\":\"F\",\"stage\":2,\"microbatch\":3,\"clock_mhz\":1410}\n"
            "{\"t_s\":1.034512,\"step\":7,\"kind\":\"baseline\",\"clock_mhz\":0}\n");
  const SinkState state = sink->state();
  EXPECT_TRUE(state.connected);
  EXPECT_FALSE(state.controls);
  EXPECT_EQ(state.news, "dry run: clocks are only written to " + path_);
  EXPECT_EQ(sink->state().news, "");
}

TEST_F(LogSinkTest, AppendsAndWritesTheRestAtTheEnd) {
  for (const std::uint32_t mhz : {900U, 915U}) {
    auto sink = *LogSink::open(path_, time_);
    sink->post({.mhz = mhz});
    sink->close(Seconds(0));
  }
  EXPECT_THAT(text(), HasSubstr("900}\n"));
  EXPECT_THAT(text(), HasSubstr("915}\n"));
}

TEST_F(LogSinkTest, IsClosedOnExecAndFollowsNoLink) {
  const auto sink = *LogSink::open(path_, time_);
  std::size_t kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) != path_) continue;
    ++kept;
    EXPECT_NE(::fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(kept, 1U);
  const std::string link = path_ + ".link";
  std::filesystem::create_symlink(path_, link);
  EXPECT_EQ(LogSink::open(link, time_).error().code(), ErrorCode::kIo);
  std::filesystem::remove(link);
  EXPECT_THAT(LogSink::open("/nowhere/clocks", time_).error().text(),
              HasSubstr("cannot open the clock log /nowhere/clocks: No such file or directory"));
}

TEST_F(LogSinkTest, TooManyChangesAreDroppedAndTold) {
  auto sink = *LogSink::open(path_, time_);
  static_cast<void>(sink->state());
  for (std::size_t i = 0; i < LogSink::kRoom + 3; ++i) sink->post({.mhz = 900});
  EXPECT_EQ(sink->state().news, "3 clock changes came too fast for the log " + path_);
}

class HoldSinkTest : public testing::Test {
 protected:
  std::unique_ptr<HoldSink> open(const std::string& gpu = "GPU-a") {
    return std::make_unique<HoldSink>(
        [this] { return std::make_unique<TestEndpoint>(agent_); },
        HoldSinkOptions{
            .gpu = gpu, .job = "gpt3", .link = {.client = "rank"}, .first_retry = 1ms, .most_retry = 2ms});
  }
  TestAgent agent_;
};

TEST_F(HoldSinkTest, TakesALeaseAndPostsClocks) {
  const auto sink = open();
  ASSERT_TRUE(sink->wait_for_first_try(Seconds(30)));
  sink->post({.mhz = 900});
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 900);
  EXPECT_EQ(sink->wanted(), 900U);
  sink->post({.mhz = 0});
  EXPECT_EQ(agent_.wait_for_post(2).mhz, 0);
  const SinkState state = sink->state();
  EXPECT_TRUE(state.connected);
  EXPECT_TRUE(state.controls);
  EXPECT_EQ(state.news, "clocks of GPU GPU-a by the test agent (version test, backend none)");
  EXPECT_FALSE(state.news_is_warning);
  EXPECT_EQ(sink->gpu().uuid, "GPU-a");
  EXPECT_EQ(sink->gpu().clocks.size(), 2U);
}

TEST_F(HoldSinkTest, NeverWaitsForAnAgentThatIsNotThere) {
  agent_.refuse_dial = true;
  const auto sink = open();
  EXPECT_FALSE(sink->wait_for_first_try(Seconds(30)));
  sink->post({.mhz = 915});
  sink->touch();
  const SinkState state = sink->state();
  EXPECT_FALSE(state.connected);
  EXPECT_EQ(state.news, "baseline clocks, and trying on: nobody listens at this socket");
  EXPECT_TRUE(state.news_is_warning);
  EXPECT_EQ(sink->gpu().uuid, "");
  agent_.refuse_dial = false;  // it was started
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 915);
}

TEST_F(HoldSinkTest, ARefusedLeaseIsAskedForAgain) {
  agent_.refuse_acquire = wire::Refusal{ErrorCode::kBusy, "GPU 0 is leased to bloom (pid 5, uid 7)"};
  const auto sink = open();
  EXPECT_FALSE(sink->wait_for_first_try(Seconds(30)));
  EXPECT_EQ(sink->state().news, "baseline clocks, and trying on: GPU 0 is leased to bloom (pid 5, uid 7)");
  EXPECT_EQ(sink->gpu().uuid, "GPU-a");  // known all the same
  sink->post({.mhz = 900});
  agent_.wait_until([&] {
    agent_.refuse_acquire.reset();
    return true;
  });
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 900);
  EXPECT_EQ(agent_.dials(), 1U);
}

TEST_F(HoldSinkTest, AnAnswerOfTheOtherEndIsShown) {
  const auto sink = open();
  ASSERT_TRUE(sink->wait_for_first_try(Seconds(30)));
  static_cast<void>(sink->state());
  sink->post({.mhz = 907});
  agent_.answer(agent_.wait_for_post(1), wire::ClockAnswer::kRefused);
  SinkState state = sink->state();
  EXPECT_TRUE(state.refused_clock);
  EXPECT_EQ(state.news, "GPU GPU-a does not have the clock that was asked for");
  EXPECT_EQ(sink->state().news, "");
  sink->post({.mhz = 900});
  agent_.answer(agent_.wait_for_post(2), wire::ClockAnswer::kFailed);
  state = sink->state();
  EXPECT_FALSE(state.refused_clock);
  EXPECT_EQ(state.news, "the driver of GPU GPU-a refuses clocks");
}

TEST_F(HoldSinkTest, ALeaseThatEndedForGoodIsAskedForAgainAllTheSame) {
  const auto sink = open();
  ASSERT_TRUE(sink->wait_for_first_try(Seconds(30)));
  sink->post({.mhz = 900});
  agent_.wait_for_post(1);
  agent_.refuse_acquire = wire::Refusal{ErrorCode::kPermission, "the grant has expired"};
  agent_.die();  // the link dials again, and its old lease is refused
  std::string news;
  while (news.find("the grant has expired") == std::string::npos) {
    news = sink->state().news;
    std::this_thread::yield();
  }
  EXPECT_FALSE(sink->state().controls);
  agent_.wait_until([&] {
    agent_.refuse_acquire.reset();  // a new grant
    return true;
  });
  EXPECT_EQ(agent_.wait_for_post(1).mhz, 900);
}

TEST_F(HoldSinkTest, OfPostsAtTheSameTimeTheLatestCounts) {
  const auto sink = open();
  ASSERT_TRUE(sink->wait_for_first_try(Seconds(30)));
  std::vector<std::thread> threads;
  for (const std::uint32_t mhz : {900U, 915U}) {
    threads.emplace_back([&sink, mhz] {
      for (int i = 0; i < 2'000; ++i) sink->post({.mhz = i % 2 == 0 ? mhz : 0});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::uint32_t last = sink->wanted();
  while (agent_.wait_for_post(1).mhz != last) std::this_thread::yield();
}

TEST_F(HoldSinkTest, CloseReleases) {
  const auto sink = open();
  ASSERT_TRUE(sink->wait_for_first_try(Seconds(30)));
  sink->close(Seconds(10));
  EXPECT_EQ(agent_.count("release"), 1U);
  sink->post({.mhz = 900});
  sink->close(Seconds(10));
  EXPECT_EQ(agent_.count("release"), 1U);
}

}  // namespace
}  // namespace perseus::client
