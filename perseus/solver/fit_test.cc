// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "perseus/solver/convex_regression.h"
#include "tests/support/pipelines.h"
#include "tests/support/property.h"

namespace perseus::solver {
namespace {

using core::ErrorCode;
using core::Joules;
using core::Seconds;
using internal::convex_regression;
using internal::Slope;
using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tests::value_or_throw;

double squares(const std::vector<double>& f, const std::vector<double>& y, const std::vector<double>& w) {
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += w[i] * (f[i] - y[i]) * (f[i] - y[i]);
  return sum;
}

TEST(ConvexRegression, KnownCases) {
  const std::vector<double> ones(3, 1.0);
  const std::vector<double> x{0, 1, 2};
  // A peak: the best convex function is the straight line.
  const auto line = convex_regression(x, std::vector<double>{0, 3, 0}, ones, Slope::kAny);
  for (const double v : line) EXPECT_NEAR(v, 1, 1e-12);
  // A valley is convex already, but it rises; the best falling one ends level.
  EXPECT_THAT(convex_regression(x, std::vector<double>{3, 0, 2}, ones, Slope::kAny), ElementsAre(3, 0, 2));
  const auto falling = convex_regression(x, std::vector<double>{3, 0, 2}, ones, Slope::kFalling);
  EXPECT_NEAR(falling[0], 3, 1e-12);
  EXPECT_NEAR(falling[1], 1, 1e-12);
  EXPECT_NEAR(falling[2], 1, 1e-12);
  // All rising: the mean, by weight.
  const auto mean =
      convex_regression(x, std::vector<double>{0, 1, 2}, std::vector<double>{1, 1, 2}, Slope::kFalling);
  for (const double v : mean) EXPECT_NEAR(v, 1.25, 1e-12);
  EXPECT_THAT(convex_regression(std::vector<double>{5}, std::vector<double>{7}, std::vector<double>{1},
                                Slope::kFalling),
              ElementsAre(7));
}

/// The conditions that characterise the optimum: the shape, and no direction that keeps it lowers the sum of
/// squares.
TEST(ConvexRegression, MeetsTheOptimalityConditions) {
  std::mt19937_64 random(3);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  for (int run = 0; run < 300; ++run) {
    const std::size_t n = 1 + random() % 40;
    std::vector<double> x(n), y(n), w(n);
    double at = 0;
    for (std::size_t i = 0; i < n; ++i) {
      x[i] = at += 0.1 + uniform();
      w[i] = 0.2 + uniform();
      y[i] = 10 + (run % 3 == 0 ? 0 : 5 / (1 + at)) + 2 * uniform();
    }
    const Slope slope = run % 2 == 0 ? Slope::kAny : Slope::kFalling;
    const auto f = convex_regression(x, y, w, slope);
    double before = -1e300;
    for (std::size_t i = 1; i < n; ++i) {
      const double now = (f[i] - f[i - 1]) / (x[i] - x[i - 1]);
      ASSERT_GE(now, before - 1e-7);
      if (slope == Slope::kFalling) {
        ASSERT_LE(now, 1e-9);
      }
      before = now;
    }
    // Directions: any falling hinge, both signs of the constant and, if free, of the line; and f itself.
    const auto gradient = [&](auto direction) {
      double g = 0;
      for (std::size_t i = 0; i < n; ++i) g += w[i] * (f[i] - y[i]) * direction(i);
      return g;
    };
    ASSERT_NEAR(gradient([](std::size_t) { return 1.0; }), 0, 1e-7);
    ASSERT_NEAR(gradient([&](std::size_t i) { return f[i]; }), 0, 1e-6);
    for (std::size_t j = 1; j < n; ++j) {
      ASSERT_GE(gradient([&](std::size_t i) { return std::max(0.0, x[j] - x[i]); }), -1e-6);
    }
    if (slope == Slope::kAny) {
      ASSERT_NEAR(gradient([&](std::size_t i) { return x[i]; }), 0, 1e-6);
    }
  }
}

TEST(ConvexRegression, TenThousandPoints) {
  const std::size_t n = 10'000;
  std::mt19937_64 random(5);
  std::vector<double> x(n), y(n), w(n, 1);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = 1 + static_cast<double>(i) / n;
    y[i] = 1 / x[i] + 0.01 * static_cast<double>(random() >> 11) * 0x1p-53;
  }
  const auto f = convex_regression(x, y, w, Slope::kFalling);
  EXPECT_LT(squares(f, y, w) / n, 0.01 * 0.01 / 11);
}

void expect_shape(const core::ProfileEntry& entry) {
  std::vector<core::Option> o = entry.options;  // by falling clock: rising time
  double before = -1e300;
  for (std::size_t k = 1; k < o.size(); ++k) {
    ASSERT_LT(o[k - 1].time, o[k].time);
    const double slope = (o[k].energy - o[k - 1].energy).value() / (o[k].time - o[k - 1].time).value();
    ASSERT_GE(slope, before - 1e-6 * (1 + std::abs(slope)));
    before = slope;
  }
}

TEST(FitConvex, GivesTheShapeAndComesNearerToTheTruth) {
  const tests::Synthetic shape{
      .stages = 3, .clocks = 40, .step_mhz = 20, .time_noise = 0.01, .energy_noise = 0.02};
  auto exact = shape;
  exact.time_noise = exact.energy_noise = 0;
  const auto truth = tests::synthetic_profile(exact);
  const auto noisy = tests::synthetic_profile(shape);
  const auto fit = value_or_throw(fit_convex(noisy));
  double before = 0;
  double after = 0;
  for (std::size_t e = 0; e < truth.entries.size(); ++e) {
    expect_shape(fit.profile.entries[e]);
    for (std::size_t k = 0; k < truth.entries[e].options.size(); ++k) {
      const auto& t = truth.entries[e].options[k];
      before += std::pow(noisy.entries[e].options[k].energy / t.energy - 1, 2);
      after += std::pow(fit.profile.entries[e].options[k].energy / t.energy - 1, 2);
    }
  }
  EXPECT_LT(after, before / 2);
  ASSERT_EQ(fit.groups.size(), 6U);
  EXPECT_EQ(fit.groups[0].options, 40U);
  // Below the noise put in, by what the fit's freedom takes up.
  EXPECT_GT(fit.time.rms, 0.006);
  EXPECT_LT(fit.time.rms, 0.01);
  EXPECT_GT(fit.energy.rms, 0.012);
  EXPECT_LT(fit.energy.rms, 0.02);
  EXPECT_GE(fit.time.most, fit.time.rms);
}

TEST(FitConvex, LeavesExactDataAlone) {
  const auto truth = tests::synthetic_profile({.stages = 2});
  const auto fit = value_or_throw(fit_convex(truth));
  EXPECT_LT(fit.time.most, 1e-9);
  EXPECT_LT(fit.energy.most, 1e-9);
  // A second fit of fitted values changes nothing either.
  const auto again = value_or_throw(fit_convex(fit.profile));
  EXPECT_LT(again.energy.most, 1e-9);
}

TEST(FitConvex, DoesNotDependOnTheOrderOfOptions) {
  const auto noisy = tests::synthetic_profile({.stages = 1, .time_noise = 0.02, .energy_noise = 0.02});
  auto shuffled = noisy;
  std::mt19937_64 random(1);
  for (auto& e : shuffled.entries) {
    for (std::size_t i = e.options.size(); i-- > 1;) std::swap(e.options[i], e.options[random() % (i + 1)]);
  }
  const auto a = value_or_throw(fit_convex(noisy));
  const auto b = value_or_throw(fit_convex(shuffled));
  for (std::size_t e = 0; e < a.profile.entries.size(); ++e) {
    for (std::size_t k = 0; k < a.profile.entries[e].options.size(); ++k) {
      EXPECT_EQ(a.profile.entries[e].options[k].clock, b.profile.entries[e].options[k].clock);
      EXPECT_EQ(a.profile.entries[e].options[k].time, b.profile.entries[e].options[k].time);
      EXPECT_EQ(a.profile.entries[e].options[k].energy, b.profile.entries[e].options[k].energy);
    }
  }
}

core::Option option(std::uint32_t mhz, double time, double energy, std::vector<std::string> knobs = {}) {
  core::Option o;
  o.clock = core::Megahertz(mhz);
  o.time = Seconds(time);
  o.energy = Joules(energy);
  o.knobs = std::move(knobs);
  return o;
}

TEST(FitConvex, FitsEachCombinationOfKnobsByItself) {
  core::Profile profile;
  profile.knob_names = {"tile"};
  profile.entries.push_back({0,
                             "forward",
                             {},
                             {option(1400, 1.0, 9, {"a"}), option(1400, 5.0, 2, {"b"}),
                              option(700, 2.0, 5, {"a"}), option(700, 7.0, 1, {"b"})}});
  const auto fit = value_or_throw(fit_convex(profile));
  ASSERT_EQ(fit.groups.size(), 2U);
  EXPECT_THAT(fit.groups[0].knobs, ElementsAre("a"));
  EXPECT_THAT(fit.groups[1].knobs, ElementsAre("b"));
  EXPECT_EQ(fit.time.most, 0);
  EXPECT_EQ(fit.profile.entries[0].options[1].knobs, std::vector<std::string>{"b"});
}

TEST(FitConvex, HeedsSamplesAndDeviations) {
  core::Profile profile;
  profile.entries.push_back(
      {0, "forward", {}, {option(1400, 1.1, 9), option(700, 1.0, 9)}});  // throttled while profiling
  auto& options = profile.entries[0].options;
  options[0].samples = 3;
  const auto by_samples = value_or_throw(fit_convex(profile)).profile.entries[0].options;
  // Weights 3 / 1.1^2 and 1 / 1.0^2.
  const double w = 3 / 1.21;
  EXPECT_NEAR(by_samples[0].time.value(), (w * 1.1 + 1.0) / (w + 1), 1e-6);
  EXPECT_LT(by_samples[0].time, by_samples[1].time);
  options[0].time_std = Seconds(0.1);
  options[1].time_std = Seconds(0.01);
  const auto by_deviation = value_or_throw(fit_convex(profile)).profile.entries[0].options;
  EXPECT_NEAR(by_deviation[0].time.value(), (300 * 1.1 + 1e4 * 1.0) / (300 + 1e4), 1e-6);
}

TEST(FitConvex, RefusesAClockThatStandsTwice) {
  core::Profile profile;
  profile.entries.push_back({3, "forward", {}, {option(1400, 1.0, 9), option(1400, 1.1, 9)}});
  const auto fit = fit_convex(profile);
  ASSERT_FALSE(fit);
  EXPECT_EQ(fit.error().code(), ErrorCode::kInvalidInput);
  EXPECT_THAT(fit.error().message(), HasSubstr("stage 3, instruction forward: clock 1400 MHz stands twice"));
}

TEST(FitConvex, ARandomProblemStaysAProblem) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const auto problem = tests::make_problem(recipe);
        const auto fitted = fit_convex(problem);
        // Clocks may stand twice in a random profile; that is refused, all else must go through.
        if (!fitted) {
          RC_ASSERT(fitted.error().message().find("stands twice") != std::string::npos);
          return;
        }
        RC_ASSERT(fitted->problem.size() == problem.size());
        for (std::uint32_t set = 0; set < problem.option_set_count(); ++set) {
          RC_ASSERT(fitted->problem.option_set(set).size() == problem.option_set(set).size());
          for (const auto& o : fitted->problem.option_set(set)) {
            RC_ASSERT(std::isfinite(o.time.value()) && std::isfinite(o.energy.value()) &&
                      o.energy >= Joules(0));
          }
        }
      },
      200);
}

}  // namespace
}  // namespace perseus::solver
