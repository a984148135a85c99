// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/outage_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "perseus/client/full_jitter.h"

namespace perseus::client {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using Channel = OutageLog::Channel;

OutageLog::Time at(std::chrono::milliseconds time) {
  return OutageLog::Time(time);
}

class OutageLogTest : public testing::Test {
 protected:
  std::vector<std::string> lines_;
  OutageLog log_{"the server", 60s, [this](bool warning, std::string_view line) {
                   lines_.push_back((warning ? "! " : "  ") + std::string(line));
                 }};
};

TEST_F(OutageLogTest, one_line_when_lost_one_when_back) {
  log_.worked(Channel::kPlans, at(0s));
  log_.failed(Channel::kPlans, "refused", at(100s));
  log_.failed(Channel::kMessages, "refused", at(101s));
  log_.failed(Channel::kPlans, "too slow", at(102s));
  log_.worked(Channel::kPlans, at(103s));
  EXPECT_EQ(lines_.size(), 1U);  // the messages still fail
  log_.worked(Channel::kMessages, at(112s));
  log_.worked(Channel::kMessages, at(113s));
  EXPECT_THAT(lines_, ElementsAre("! the server gives no usable answer (refused); trying again",
                                  "  the server answers again after 12.0 s and 3 failed attempts"));
}

TEST_F(OutageLogTest, a_server_that_flaps_does_not_flood_the_log) {
  for (int second = 0; second < 600; ++second) {
    log_.failed(Channel::kPlans, "x", at(std::chrono::seconds(second)));
    log_.worked(Channel::kPlans, at(std::chrono::seconds(second) + 500ms));
  }
  EXPECT_EQ(lines_.size(), 20U);  // two a minute
}

TEST(FullJitter, waits_are_drawn_from_zero_to_a_window_that_doubles) {
  FullJitter jitter(500ms, 30s, 1);
  std::vector<std::chrono::milliseconds> most(8, 0ms);
  for (int round = 0; round < 2000; ++round) {
    jitter.reset();
    for (auto& longest : most) longest = std::max(longest, jitter.next());
  }
  const std::chrono::milliseconds windows[] = {500ms, 1s, 2s, 4s, 8s, 16s, 30s, 30s};
  for (std::size_t i = 0; i < most.size(); ++i) {
    EXPECT_LE(most[i], windows[i]);
    EXPECT_GT(most[i], 0.95 * windows[i]);  // all of the window is used
  }
}

TEST(FullJitter, is_the_same_for_a_seed_and_different_for_others) {
  FullJitter a(500ms, 30s, 7);
  FullJitter b(500ms, 30s, 7);
  FullJitter c(500ms, 30s, 8);
  int different = 0;
  for (int i = 0; i < 20; ++i) {
    const auto wait = a.next();
    EXPECT_EQ(wait, b.next());
    if (wait != c.next()) ++different;
  }
  EXPECT_GT(different, 15);
  EXPECT_EQ(a.tries(), 20U);
}

}  // namespace
}  // namespace perseus::client
