// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/detector.h"

#include <gtest/gtest.h>

#include <random>

namespace perseus::server {
namespace {

using core::Seconds;

constexpr Seconds kPromised{0.5};

/// Ten steps of a rank whose computations take `ratio` times what the plan expects at the clock that was set.
Measurement report(double ratio, double throttled = 0, double iteration_s = 0.5, std::uint32_t steps = 10,
                   std::uint32_t mhz = 1410) {
  Measurement out{.iterations = steps, .iteration_time = Seconds(iteration_s), .throttled = throttled};
  // At a lower clock the plan expects more; only the quotient counts.
  const double expected = 0.03 * 1410 / mhz;
  out.kinds.push_back({.clock = core::Megahertz(mhz),
                       .count = 40,
                       .time = Seconds(ratio * expected),
                       .expected = Seconds(expected)});
  return out;
}

TEST(Detector, a_rank_that_is_slower_than_the_same_stage_elsewhere_is_a_straggler) {
  Detector detector;
  detector.add({0, 1, 0}, report(1.2));
  EXPECT_FALSE(detector.judge({0, 1, 0}, kPromised)) << "nobody to compare with";
  detector.add({1, 1, 0}, report(1.0));
  detector.add({2, 1, 0}, report(1.01));
  const auto verdict = detector.judge({0, 1, 0}, kPromised);
  ASSERT_TRUE(verdict);
  EXPECT_NEAR(verdict->slowdown, 1.2, 1e-9);
  EXPECT_EQ(verdict->cause, "detected: its computations take longer than in other pipelines");
  EXPECT_FALSE(detector.judge({1, 1, 0}, kPromised));
  EXPECT_FALSE(detector.judge({2, 1, 0}, kPromised));
}

TEST(Detector, stages_are_compared_with_themselves_only) {
  Detector detector;
  for (const std::uint32_t dp : {0U, 1U}) {
    detector.add({dp, 0, 0}, report(1.0));
    detector.add({dp, 1, 0}, report(1.3));
  }
  EXPECT_FALSE(detector.judge({0, 1, 0}, kPromised));
  EXPECT_FALSE(detector.judge({1, 1, 0}, kPromised));
}

TEST(Detector, our_own_lowered_clock_makes_no_straggler) {
  Detector detector;
  detector.add({0, 0, 0}, report(1.0, 0, 0.5, 10, 900));
  detector.add({1, 0, 0}, report(1.0, 0, 0.5, 10, 1410));
  EXPECT_FALSE(detector.judge({0, 0, 0}, kPromised));
}

TEST(Detector, fewer_than_ten_steps_decide_nothing) {
  Detector detector;
  detector.add({1, 0, 0}, report(1.0));
  detector.add({0, 0, 0}, report(1.5, 0, 0.5, 9));
  EXPECT_FALSE(detector.judge({0, 0, 0}, kPromised));
  detector.add({0, 0, 0}, report(1.5, 0, 0.5, 1));
  EXPECT_TRUE(detector.judge({0, 0, 0}, kPromised));
}

TEST(Detector, it_takes_more_to_become_a_straggler_than_to_stay_one) {
  Detector detector;
  detector.add({1, 0, 0}, report(1.0));
  const auto slow_at = [&](double ratio) {
    detector.add({0, 0, 0}, report(ratio));
    return detector.judge({0, 0, 0}, kPromised).has_value();
  };
  EXPECT_FALSE(slow_at(1.04));
  EXPECT_TRUE(slow_at(1.06));
  EXPECT_TRUE(slow_at(1.03));
  EXPECT_FALSE(slow_at(1.01));
  EXPECT_FALSE(slow_at(1.04));
}

TEST(Detector, noise_of_a_per_cent_flags_nobody) {
  Detector detector;
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise(1.0, 0.01);
  for (int i = 0; i < 2000; ++i) {
    for (std::uint32_t dp = 0; dp < 4; ++dp) {
      detector.add({dp, 0, 0}, report(noise(random)));
      EXPECT_FALSE(detector.judge({dp, 0, 0}, kPromised));
    }
  }
}

TEST(Detector, a_recovery_is_seen_in_the_next_report) {
  Detector detector;
  detector.add({1, 0, 0}, report(1.0));
  for (int i = 0; i < 20; ++i) detector.add({0, 0, 0}, report(1.4));
  EXPECT_TRUE(detector.judge({0, 0, 0}, kPromised));
  detector.add({0, 0, 0}, report(1.0));
  EXPECT_FALSE(detector.judge({0, 0, 0}, kPromised));
}

TEST(Detector, throttling_is_named_as_the_cause) {
  Detector detector;
  detector.add({1, 0, 0}, report(1.0));
  detector.add({0, 0, 0}, report(1.2, 0.3));
  EXPECT_EQ(detector.judge({0, 0, 0}, kPromised)->cause,
            "detected: power or heat held its clock down in 30 % of the samples");
}

TEST(Detector, a_rank_that_is_throttled_all_the_time_is_known_by_its_iterations) {
  // Ranks throw throttled samples away, so that it reports none.
  Detector detector;
  detector.add({1, 0, 0}, report(1.0));
  Measurement hot = report(1.0, 1.0, 0.65);
  hot.kinds.clear();
  detector.add({0, 0, 0}, hot);
  const auto verdict = detector.judge({0, 0, 0}, kPromised);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->iteration_time, Seconds(0.65));
  // Its neighbour takes as long over an iteration, but waits for it.
  detector.add({1, 0, 0}, report(1.0, 0, 0.65));
  EXPECT_FALSE(detector.judge({1, 0, 0}, kPromised));
  detector.add({0, 0, 0}, report(1.0, 0, 0.5));
  EXPECT_FALSE(detector.judge({0, 0, 0}, kPromised));
}

TEST(Detector, a_stage_that_is_slow_everywhere_has_drifted) {
  Detector detector;
  const auto round = [&](double stage0, double stage1, double elsewhere) {
    detector.add({0, 0, 0}, report(stage0));
    detector.add({1, 0, 0}, report(stage0));
    detector.add({0, 1, 0}, report(stage1));
    detector.add({1, 1, 0}, report(elsewhere));
  };
  for (int i = 0; i < 5; ++i) round(1.0, 1.05, 1.0);
  EXPECT_FALSE(detector.drift()) << "one pipeline alone is a straggler";
  for (int i = 0; i < 2; ++i) round(1.0, 1.05, 1.04);
  EXPECT_FALSE(detector.drift()) << "two reports are not three";
  round(1.0, 1.05, 1.04);
  ASSERT_TRUE(detector.drift());
  EXPECT_EQ(detector.drift()->rank, 1U);
  EXPECT_NEAR(detector.drift()->ratio, 1.045, 1e-9);
  detector.reset();
  EXPECT_FALSE(detector.drift());
  for (int i = 0; i < 3; ++i) round(0.9, 1.0, 1.0);
  EXPECT_EQ(detector.drift()->rank, 0U);
}

}  // namespace
}  // namespace perseus::server
