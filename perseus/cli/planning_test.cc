// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/planning.h"

#include <gtest/gtest.h>

namespace perseus::cli {
namespace {

using core::Seconds;

constexpr Seconds kMin{10};
constexpr Seconds kStar{12};
constexpr Seconds kMax{20};

Target resolved(const Question& question) {
  const auto target = resolve(question, kMin, kStar, kMax);
  EXPECT_TRUE(target) << target.error().text();
  return *target;
}

TEST(Question, WithoutOneThePlanIsTheFastest) {
  EXPECT_EQ(resolved({}).time, kMin);
  EXPECT_FALSE(resolved({}).sync_time);
}

TEST(Question, SelfTimedTargetsStopAtTStar) {
  EXPECT_EQ(resolved({.target_time = Seconds(11)}).time, Seconds(11));
  EXPECT_EQ(resolved({.target_time = Seconds(15)}).time, kStar);
  EXPECT_EQ(resolved({.slowdown_percent = 5}).time, Seconds(10.5));
  EXPECT_EQ(resolved({.slowdown_percent = 0}).time, kMin);
  EXPECT_EQ(resolved({.min_energy = true}).time, kStar);
}

TEST(Question, AStragglerLeadsBeyondTStarUpToTMax) {
  EXPECT_EQ(resolved({.straggler_factor = 1.5}).time, Seconds(15));
  EXPECT_EQ(resolved({.straggler_factor = 1.5}).sync_time, Seconds(15));
  EXPECT_EQ(resolved({.straggler_factor = 3}).time, kMax);
  EXPECT_EQ(resolved({.straggler_factor = 3}).sync_time, Seconds(30));
  EXPECT_EQ(resolved({.sync_time = Seconds(13)}).time, Seconds(13));
}

TEST(Question, ASyncTimeBelowTMinMakesThisPipelineTheSlowest) {
  EXPECT_EQ(resolved({.sync_time = Seconds(3)}).time, kMin);
  EXPECT_EQ(resolved({.sync_time = Seconds(3)}).sync_time, kMin);
}

TEST(Question, RefusalsNameValueAndLimitInAllDigits) {
  const Seconds third{10.0 / 3};
  EXPECT_EQ(
      resolve({.target_time = Seconds(3)}, third, kStar, kMax).error().text(),
      "--target-time: target time 3 s is under T_min = 3.3333333333333335 s, the iteration time with every "
      "computation at its fastest option");
  EXPECT_EQ(resolve({.target_time = third}, third, kStar, kMax)->time, third);
  EXPECT_EQ(resolve({.straggler_factor = 0.9}, kMin, kStar, kMax).error().text(),
            "--straggler: 0.9 is not a number of at least 1");
  EXPECT_EQ(resolve({.slowdown_percent = -1}, kMin, kStar, kMax).error().code(), core::ErrorCode::kUsage);
}

}  // namespace
}  // namespace perseus::cli
