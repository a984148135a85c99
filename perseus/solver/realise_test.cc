// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "perseus/solver/frontier.h"
#include "perseus/solver/realise_bound.h"
#include "tests/support/brute_force.h"
#include "tests/support/pipelines.h"
#include "tests/support/property.h"

namespace perseus::solver {
namespace {

using core::ErrorCode;
using core::ExactTime;
using core::Joules;
using core::Seconds;
using ::testing::HasSubstr;
using tests::check_property;
using tests::make_problem;
using tests::ProblemRecipe;
using tests::RecipeLimits;
using tests::value_or_throw;

Frontier whole_frontier(const core::Problem& problem) {
  return value_or_throw(Frontier::solve(problem, {.range = Range::kTMax, .progress = {}}));
}

/// Both ends, T* and times between.
std::vector<Seconds> targets(const Frontier& f) {
  const Seconds fast = f.t_min();
  const Seconds slow = std::max(f.t_max(), fast);
  std::vector<Seconds> all{fast, std::max(f.t_star(), fast), slow};
  for (const double share : {0.1, 0.37, 0.8}) all.push_back(std::max(fast, fast + share * (slow - fast)));
  return all;
}

/// Every claim of a plan that can be recomputed from the problem alone.
void expect_honest(const core::Problem& problem, const core::Plan& plan) {
  const auto timing = core::exact_timing(problem, plan.choice);
  RC_ASSERT(timing.makespan <= ExactTime(plan.target_time));
  RC_ASSERT(plan.time == timing.makespan.ceil_seconds());
  RC_ASSERT(plan.energy == core::pipeline_energy(problem, plan.choice, plan.sync_time.value_or(plan.time)));
  RC_ASSERT(plan.lower_bound <= plan.energy);
  RC_ASSERT(plan.lower_bound >= Joules(0));
  if (plan.lower_bound > Joules(0)) RC_ASSERT(plan.gap == plan.energy / plan.lower_bound - 1);
}

TEST(Realise, IsNeverLateAndNeverBelowItsBound) {
  check_property(
      [](const ProblemRecipe& recipe) {
        const auto problem = make_problem(recipe);
        const auto frontier = whole_frontier(problem);
        for (const Seconds target : targets(frontier)) {
          const auto relaxed = value_or_throw(frontier.at(target));
          expect_honest(problem, value_or_throw(realise(problem, relaxed)));
          expect_honest(problem, value_or_throw(realise(problem, relaxed, {.sync_time = 1.5 * target})));
          expect_honest(problem, value_or_throw(realise(problem, relaxed, {.polish = Seconds(0.0005)})));
        }
      },
      150);
}

/// What brute force found about a set of tiny problems.
struct Tally {
  int plans = 0;
  int optimal = 0;
};

void compare_with_brute_force(const ProblemRecipe& recipe, Tally& tally) {
  const auto problem = make_problem(recipe);
  if (!tests::assignment_count(problem, 20'000)) return;
  const auto all = tests::discrete_frontier(problem);
  const auto frontier = whole_frontier(problem);
  for (const Seconds target : targets(frontier)) {
    const auto relaxed = value_or_throw(frontier.at(target));
    for (const auto sync : {std::optional<Seconds>(), std::optional(1.25 * target)}) {
      const auto least = tests::least_energy(problem, all, target, sync);
      RC_ASSERT(least.has_value());
      const auto plan =
          value_or_throw(realise(problem, relaxed, {.sync_time = sync, .polish = Seconds(0.001)}));
      const double rounding = 1e-12 * std::max(least->value(), 1e-300);
      RC_ASSERT(plan.lower_bound.value() <= least->value() + rounding);
      RC_ASSERT(plan.energy.value() >= least->value() - rounding);
      // What is missing to the optimum is never more than the plan admits.
      if (plan.lower_bound > Joules(0)) RC_ASSERT(plan.energy / *least - 1 <= plan.gap + 1e-12);
      ++tally.plans;
      tally.optimal += plan.energy.value() <= least->value() * (1 + 1e-9) ? 1 : 0;
    }
  }
}

TEST(Realise, AgreesWithBruteForceOnTinyProblems) {
  Tally tally;
  RecipeLimits limits{.ranks = 3, .virtual_stages = 1, .microbatches = 2, .options = 4};
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    compare_with_brute_force(tests::recipe_from_seed(seed, limits), tally);
  }
  RecordProperty("plans", tally.plans);
  RecordProperty("optimal", tally.optimal);
  ASSERT_GT(tally.plans, 1000);
  EXPECT_GE(tally.optimal, tally.plans * 95 / 100) << tally.optimal << " of " << tally.plans;
}

TEST(Realise, MorePolishIsNeverWorse) {
  for (const double noise : {0.0, 0.004}) {
    const auto problem = tests::one_f_one_b_problem(
        tests::synthetic_profile({.stages = 4, .clocks = 30, .time_noise = noise, .energy_noise = 2 * noise}),
        4, 16);
    const auto frontier = whole_frontier(problem);
    for (const double share : {0.0, 0.3, 1.0}) {
      const auto relaxed =
          value_or_throw(frontier.at(frontier.t_min() + share * (frontier.t_star() - frontier.t_min())));
      Joules before = value_or_throw(realise(problem, relaxed)).energy;
      for (const double seconds : {1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3}) {
        const Joules now = value_or_throw(realise(problem, relaxed, {.polish = Seconds(seconds)})).energy;
        EXPECT_LE(now, before) << noise << ' ' << share << ' ' << seconds;
        before = now;
      }
    }
  }
}

TEST(Realise, PolishingPays) {
  const auto problem = tests::one_f_one_b_problem(
      tests::synthetic_profile({.stages = 4, .clocks = 40, .time_noise = 0.004, .energy_noise = 0.008}), 4,
      32);
  const auto frontier = whole_frontier(problem);
  const auto relaxed = value_or_throw(frontier.at(0.5 * (frontier.t_min() + frontier.t_star())));
  const auto once = value_or_throw(realise(problem, relaxed));
  const auto polished = value_or_throw(realise(problem, relaxed, {.polish = Seconds(0.2)}));
  EXPECT_LT(once.gap, 0.012);
  EXPECT_LT(polished.gap, once.gap);
}

TEST(Realise, GivesTheSamePlanAgain) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 4}), 4, 12);
  const auto frontier = whole_frontier(problem);
  const auto relaxed = value_or_throw(frontier.at(frontier.t_star()));
  const RealiseOptions options{.polish = Seconds(0.05)};
  const auto plan = value_or_throw(realise(problem, relaxed, options));
  const auto again = value_or_throw(realise(problem, relaxed, options));
  EXPECT_EQ(plan.choice, again.choice);
  EXPECT_EQ(plan.energy, again.energy);
  EXPECT_EQ(plan.lower_bound, again.lower_bound);
}

TEST(Realise, CriticalPathRunsAtFullSpeedAtTMin) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 3}), 3, 6);
  const auto frontier = whole_frontier(problem);
  const auto plan = value_or_throw(realise(problem, value_or_throw(frontier.at(frontier.t_min()))));
  EXPECT_EQ(plan.time, frontier.t_min());
  const auto fastest = core::pipeline_energy(problem, core::fastest_choice(problem), frontier.t_min());
  EXPECT_LT(plan.energy, fastest);
}

TEST(Realise, OneOptionLeavesNoChoice) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 2, .clocks = 1}), 2, 3);
  const auto frontier = whole_frontier(problem);
  const auto plan = value_or_throw(
      realise(problem, value_or_throw(frontier.at(frontier.t_min())), {.polish = Seconds(0.01)}));
  EXPECT_EQ(plan.choice, core::fastest_choice(problem));
  EXPECT_NEAR(plan.gap, 0, 1e-9);
}

TEST(Realise, SynchronisedPlanPaysForWaitingToTheEnd) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 2}), 2, 4, 85, 0, 8);
  const auto frontier = whole_frontier(problem);
  const Seconds sync = 3 * frontier.t_max();
  auto relaxed = value_or_throw(frontier.at(frontier.t_max()));
  // Past T_max no flow is left: every computation has its least effective cost and nothing is to be rounded.
  relaxed.target = 1.001 * frontier.t_max();
  relaxed.certificate = {};
  relaxed.certificate.computation.assign(problem.size(), 0);
  const auto plan = value_or_throw(realise(problem, relaxed, {.sync_time = sync}));
  EXPECT_EQ(plan.sync_time, sync);
  EXPECT_EQ(plan.energy, core::pipeline_energy(problem, plan.choice, sync));
  EXPECT_NEAR(plan.gap, 0, 1e-9);
}

TEST(Realise, RefusesWhatDoesNotFit) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 2}), 2, 2);
  const auto frontier = whole_frontier(problem);
  const auto relaxed = value_or_throw(frontier.at(frontier.t_star()));

  const auto early = realise(problem, relaxed, {.sync_time = 0.5 * relaxed.target});
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code(), ErrorCode::kInvalidInput);
  EXPECT_THAT(early.error().message(), HasSubstr("before the target time"));

  auto fast = relaxed;
  fast.target = 0.9 * frontier.t_min();
  const auto infeasible = realise(problem, fast);
  ASSERT_FALSE(infeasible);
  EXPECT_EQ(infeasible.error().code(), ErrorCode::kInfeasible);
  EXPECT_THAT(infeasible.error().message(), HasSubstr("is below T_min = "));
  fast.target = core::Seconds(0);
  EXPECT_EQ(realise(problem, fast).error().code(), ErrorCode::kInfeasible);
  fast.target = core::Seconds(std::nextafter(frontier.t_min().value(), 0));
  EXPECT_EQ(realise(problem, fast).error().code(), ErrorCode::kInfeasible);

  auto short_one = relaxed;
  short_one.duration.pop_back();
  EXPECT_THAT(realise(problem, short_one).error().message(), HasSubstr("has 7 durations and 8 flows"));
  auto odd_edge = relaxed;
  odd_edge.certificate.edges.push_back({.edge = 1000, .flow = 1});
  EXPECT_THAT(realise(problem, odd_edge).error().message(), HasSubstr("a flow on edge 1000"));

  for (const double polish : {-1.0, 2e6, std::nan("")}) {
    EXPECT_THAT(realise(problem, relaxed, {.polish = Seconds(polish)}).error().message(),
                HasSubstr("polish is "));
  }
}

TEST(Realise, WrongDurationsCostEnergyButNeverTheTarget) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 3}), 3, 6);
  const auto frontier = whole_frontier(problem);
  for (const std::int64_t duration : {std::int64_t{0}, std::int64_t{1} << 60, -(std::int64_t{1} << 60)}) {
    auto relaxed = value_or_throw(frontier.at(1.1 * frontier.t_min()));
    std::ranges::fill(relaxed.duration, duration);
    const auto plan = value_or_throw(realise(problem, relaxed));
    EXPECT_LE(core::exact_timing(problem, plan.choice).makespan, ExactTime(relaxed.target));
  }
}

TEST(ProvenEnergy, BeyondTStarCountsFromTheEarliestEnd) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 2}), 2, 4);
  core::Certificate none;
  none.computation.assign(problem.size(), 0);
  // Without flow: every computation at its least effective cost, blocking to T_min.
  double cost = 0;
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    double least = std::numeric_limits<double>::infinity();
    for (const auto& o : problem.options(i)) least = std::min(least, problem.effective_cost(i, o).value());
    cost += least;
  }
  const auto frontier = whole_frontier(problem);
  const double expected = cost + (problem.total_blocking_power() * frontier.t_min()).value();
  const double proven = internal::proven_energy(problem, none, frontier.t_max(), std::nullopt).value();
  EXPECT_LE(proven, expected);
  EXPECT_NEAR(proven, expected, 1e-9 * expected);
}

}  // namespace
}  // namespace perseus::solver
