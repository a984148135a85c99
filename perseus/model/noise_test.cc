// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace perseus::model {
namespace {

core::Option option(std::uint32_t clock) {
  core::Option o;
  o.clock = core::Megahertz(clock);
  o.time = core::Seconds(2);
  o.energy = core::Joules(100);
  return o;
}

core::Option noisy(const NoiseModel& noise, std::uint32_t clock, std::uint32_t stage = 0) {
  core::Option o = option(clock);
  add_noise(noise, stage, "forward", o);
  return o;
}

TEST(Noise, IsAbsentWhenNotAskedFor) {
  const core::Option o = noisy({}, 1000);
  EXPECT_EQ(o.time, core::Seconds(2));
  EXPECT_EQ(o.energy, core::Joules(100));
  EXPECT_FALSE(o.time_std || o.energy_std);
}

TEST(Noise, DependsOnSeedStageInstructionAndClockAlone) {
  const NoiseModel noise{.time_percent = 1, .energy_percent = 1, .samples = 1, .seed = 7};
  EXPECT_EQ(noisy(noise, 1000).time, noisy(noise, 1000).time);
  EXPECT_NE(noisy(noise, 1000).time, noisy(noise, 1015).time);
  EXPECT_NE(noisy(noise, 1000).time, noisy(noise, 1000, 1).time);
  EXPECT_NE(noisy(noise, 1000).time,
            noisy({.time_percent = 1, .energy_percent = 1, .samples = 1, .seed = 8}, 1000).time);
  core::Option backward = option(1000);
  add_noise(noise, 0, "backward", backward);
  EXPECT_NE(backward.time, noisy(noise, 1000).time);
}

TEST(Noise, HasTheSpreadAskedFor) {
  const NoiseModel noise{.time_percent = 2, .energy_percent = 5};
  constexpr int kDraws = 4000;
  double time = 0;
  double time_squares = 0;
  double energy_squares = 0;
  for (std::uint32_t clock = 1; clock <= kDraws; ++clock) {
    const core::Option o = noisy(noise, clock);
    const double t = o.time.value() / 2 - 1;
    const double e = o.energy.value() / 100 - 1;
    EXPECT_LE(std::abs(t), 0.08 + 1e-12);
    time += t;
    time_squares += t * t;
    energy_squares += e * e;
  }
  EXPECT_NEAR(time / kDraws, 0, 0.001);
  EXPECT_NEAR(std::sqrt(time_squares / kDraws), 0.02, 0.001);
  EXPECT_NEAR(std::sqrt(energy_squares / kDraws), 0.05, 0.002);
}

TEST(Noise, SamplesAreAveragedAndTellTheirSpread) {
  const core::Option o = noisy({.time_percent = 2, .energy_percent = 5, .samples = 10'000}, 1000);
  EXPECT_EQ(o.samples, 10'000U);
  EXPECT_NEAR(o.time.value(), 2, 0.002);
  EXPECT_NEAR(o.time_std->value(), 0.04, 0.001);
  EXPECT_NEAR(o.energy_std->value(), 5, 0.1);
}

}  // namespace
}  // namespace perseus::model
