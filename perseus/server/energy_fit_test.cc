// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/energy_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Kind;
using core::Megahertz;
using core::Seconds;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr double kPeriod = 0.1;  // seconds between two updates of the counter

EnergyColumn computation(Kind kind, std::uint32_t mhz) {
  return {.idle = false, .kind = kind, .stage = 0, .clock = Megahertz(mhz)};
}

/// Seconds of one interval in each column, and what it drew.
struct Interval {
  std::vector<double> seconds;
  double joules = 0;
};

EnergySums sums_of(const std::vector<EnergyColumn>& columns, const std::vector<Interval>& intervals) {
  const std::size_t n = columns.size();
  EnergySums sums{
      .columns = columns, .xtx = std::vector<double>(n * (n + 1) / 2, 0), .xty = std::vector<double>(n, 0)};
  for (const Interval& interval : intervals) {
    ++sums.intervals;
    std::size_t cell = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sums.seconds += Seconds(interval.seconds[i]);
      sums.xty[i] += interval.seconds[i] * interval.joules;
      for (std::size_t j = i; j < n; ++j) sums.xtx[cell++] += interval.seconds[i] * interval.seconds[j];
    }
    sums.joules += Joules(interval.joules);
    sums.yty += interval.joules * interval.joules;
  }
  return sums;
}

/// A window in which forwards, backwards and waiting share each interval as chance has it.
class RandomWindow {
 public:
  RandomWindow(std::mt19937_64& random, std::uint32_t mhz)
      : columns{computation(Kind::kForward, mhz), computation(Kind::kBackward, mhz), EnergyColumn{}} {
    std::uniform_real_distribution<double> watts(80, 400);
    for (double& power : powers) power = watts(random);
  }
  std::vector<Interval> intervals(std::mt19937_64& random, int count, double noise_j) const {
    std::uniform_real_distribution<double> share(0, 1);
    std::normal_distribution<double> noise(0, 1);
    std::vector<Interval> out;
    for (int i = 0; i < count; ++i) {
      std::vector<double> mix{share(random), share(random), share(random)};
      const double all = mix[0] + mix[1] + mix[2];
      double joules = noise_j * noise(random);
      for (std::size_t k = 0; k < mix.size(); ++k) {
        mix[k] *= kPeriod / all;
        joules += mix[k] * powers[k];
      }
      out.push_back({mix, joules});
    }
    return out;
  }
  std::vector<EnergyColumn> columns;
  std::vector<double> powers{0, 0, 0};
};

TEST(EnergyFit, finds_the_powers_that_intervals_were_made_of) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    const RandomWindow top(random, 1410);
    const RandomWindow low(random, 1110);
    const auto fit = fit_powers(std::vector{sums_of(top.columns, top.intervals(random, 60, 0)),
                                            sums_of(low.columns, low.intervals(random, 60, 0))});
    ASSERT_TRUE(fit) << fit.error().text();
    for (const RandomWindow* window : {&top, &low}) {
      for (std::size_t k = 0; k < 2; ++k) {
        const auto* found = fit->find(window->columns[k]);
        ASSERT_NE(found, nullptr);
        EXPECT_NEAR(found->power.value(), window->powers[k], 0.01 * window->powers[k]) << seed;
      }
    }
    EXPECT_NEAR(fit->idle(0)->power.value(), top.powers[2], 0.01 * top.powers[2]) << seed;
    EXPECT_NEAR(fit->idle(1)->power.value(), low.powers[2], 0.01 * low.powers[2]) << seed;
    for (const double condition : fit->condition) EXPECT_LT(condition, kMostCondition);
  }
}

/// 95 % intervals hold the truth in about 95 of 100 cases; far fewer would be a claim too many, and intervals
/// that always hold it would say nothing.
TEST(EnergyFit, its_confidence_intervals_hold_the_truth_about_as_often_as_they_say) {
  int held = 0;
  int all = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    std::mt19937_64 random(seed);
    const RandomWindow window(random, 1410);
    const auto fit = fit_powers(std::vector{sums_of(window.columns, window.intervals(random, 80, 0.3))});
    ASSERT_TRUE(fit) << fit.error().text();
    for (std::size_t k = 0; k < 2; ++k) {
      const auto* found = fit->find(window.columns[k]);
      ++all;
      if (std::abs(found->power.value() - window.powers[k]) <= kConfidence95 * found->std_error.value())
        ++held;
    }
  }
  EXPECT_GT(held, all * 90 / 100);
  EXPECT_LT(held, all);
}

TEST(EnergyFit, the_same_mix_everywhere_tells_only_sums_and_says_so) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const RandomWindow window(random, 1410);
    const std::vector<double> mix{0.03, 0.06, 0.01};
    const double joules = mix[0] * window.powers[0] + mix[1] * window.powers[1] + mix[2] * window.powers[2];
    const auto fit = fit_powers(std::vector{sums_of(window.columns, std::vector(80, Interval{mix, joules}))});
    ASSERT_TRUE(fit) << fit.error().text();
    EXPECT_GT(fit->condition.front(), kMostCondition) << seed;
    double told = 0;
    for (std::size_t k = 0; k < 3; ++k) told += mix[k] * fit->unknowns[k].power.value();
    EXPECT_NEAR(told, joules, 0.001 * joules) << seed;
    EXPECT_GT(fit->unknowns[0].std_error, 0.05 * fit->unknowns[0].power) << "it claims to know the split";
  }
}

TEST(EnergyFit, sums_of_windows_add_up_in_any_order_and_with_other_columns) {
  std::mt19937_64 random(7);
  const RandomWindow window(random, 1410);
  const auto first = window.intervals(random, 20, 0);
  const auto second = window.intervals(random, 30, 0);
  auto both = first;
  both.insert(both.end(), second.begin(), second.end());
  const EnergySums whole = sums_of(window.columns, both);
  EnergySums ahead = sums_of(window.columns, first);
  accumulate(ahead, sums_of(window.columns, second));
  EnergySums behind = sums_of(window.columns, second);
  accumulate(behind, sums_of(window.columns, first));
  for (const EnergySums* sums : {&ahead, &behind}) {
    EXPECT_EQ(sums->intervals, 50U);
    EXPECT_NEAR(sums->yty, whole.yty, 1e-9 * whole.yty);
    for (std::size_t i = 0; i < whole.xtx.size(); ++i) EXPECT_NEAR(sums->xtx[i], whole.xtx[i], 1e-12);
  }
  EnergySums wider = whole;
  accumulate(wider, sums_of({computation(Kind::kRecompute, 1410)}, {{{kPeriod}, 20}}));
  EXPECT_THAT(wider.columns, UnorderedElementsAre(window.columns[0], window.columns[1], EnergyColumn{},
                                                  computation(Kind::kRecompute, 1410)));
  EXPECT_EQ(wider.xtx.size(), 10U);
  EXPECT_DOUBLE_EQ(wider.xtx.back(), kPeriod * kPeriod);
  EXPECT_DOUBLE_EQ(wider.xty.back(), kPeriod * 20);
}

TEST(EnergyFit, what_cannot_be_solved_is_refused) {
  std::mt19937_64 random(1);
  const RandomWindow window(random, 1410);
  const auto few = fit_powers(std::vector{sums_of(window.columns, window.intervals(random, 3, 0))});
  ASSERT_FALSE(few);
  EXPECT_EQ(few.error().code(), ErrorCode::kInvalidInput);
  EXPECT_EQ(few.error().message(), "3 intervals of the energy counter for 3 unknown powers");

  EnergySums impossible = sums_of(window.columns, window.intervals(random, 80, 0));
  impossible.xtx[1] *= 10;  // more in common than each has
  const auto refused = fit_powers(std::vector{impossible});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(),
              HasSubstr("no intervals have the sums of columns F0@1410 and B0@1410"));
}

}  // namespace
}  // namespace perseus::server
