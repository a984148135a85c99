// SPDX-License-Identifier: Apache-2.0
//
// The oracles themselves: by hand, and against each other.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "tests/support/brute_force.h"
#include "tests/support/property.h"
#include "tests/support/reference_lp.h"
#include "tests/support/small_problems.h"

namespace perseus::tests {
namespace {

using core::Choice;
using core::Joules;
using core::Option;
using core::Problem;
using core::Seconds;
using core::Watts;

TEST(ReferenceFrontier, TwoComputationsInARowByHand) {
  // Effective costs: F (1, 9) (2, 2) (4, -2), slopes 7 and 2; B (1, 7) (3, -1), slope 4. All slow: T = 7, C =
  // -3.
  const auto frontier = ReferenceFrontier::solve(two_in_a_row());
  const auto& c = frontier.corners();
  ASSERT_EQ(c.size(), 4u);
  const long double expected[4][3] = {{7, 2, -3}, {5, 4, 1}, {3, 7, 9}, {2, INFINITY, 16}};
  for (std::size_t k = 0; k < 4; ++k) {
    EXPECT_EQ(c[k].time_s, expected[k][0]);
    EXPECT_EQ(c[k].slope_w, expected[k][1]);
    EXPECT_EQ(c[k].cost_j, expected[k][2]);
  }
  EXPECT_EQ(frontier.t_min_s(), 2);
  EXPECT_EQ(frontier.t_max_s(), 7);
  EXPECT_EQ(frontier.time_at_slope(1), 7);
  EXPECT_EQ(frontier.time_at_slope(2), 5);
  EXPECT_EQ(frontier.time_at_slope(5), 3);
  EXPECT_EQ(frontier.time_at_slope(7), 2);
  EXPECT_EQ(frontier.cost_at(9), -3);
  EXPECT_EQ(frontier.cost_at(4), 5);
  EXPECT_EQ(frontier.cost_at(2.5), 12.5);
}

TEST(BruteForce, TwoComputationsInARowByHand) {
  const Problem problem = two_in_a_row();
  EXPECT_EQ(assignment_count(problem, 6), 6u);
  EXPECT_EQ(assignment_count(problem, 5), std::nullopt);
  const auto frontier = discrete_frontier(problem);
  ASSERT_EQ(frontier.size(), 5u);
  const double times[] = {2, 3, 4, 5, 7};
  const double costs[] = {16, 9, 8, 1, -3};
  for (std::size_t k = 0; k < 5; ++k) {
    EXPECT_EQ(frontier[k].time.nearest_seconds(), Seconds(times[k]));
    EXPECT_EQ(frontier[k].cost, Joules(costs[k]));
  }
  EXPECT_EQ(frontier[1].choice, (Choice{1, 0}));
  EXPECT_EQ(least_energy(problem, frontier, Seconds(1.5), {}), std::nullopt);
  EXPECT_EQ(least_energy(problem, frontier, Seconds(4), {}), Joules(12));
  EXPECT_EQ(least_energy(problem, frontier, Seconds(4), Seconds(10)), Joules(18));
  EXPECT_EQ(least_energy(problem, frontier, Seconds(100), {}), Joules(4));
}

TEST(ReferenceFrontier, IsConvexAndNeverAboveTheDiscreteOptimum) {
  const RecipeLimits tiny{.ranks = 2, .virtual_stages = 2, .microbatches = 2, .options = 3};
  int compared = 0;
  check_property([&] {
    const Problem problem = make_problem(*recipes(tiny));
    RC_PRE(assignment_count(problem, 3000).has_value());
    const auto relaxed = ReferenceFrontier::solve(problem);
    for (std::size_t k = 1; k < relaxed.corners().size(); ++k) {
      RC_ASSERT(relaxed.corners()[k].time_s < relaxed.corners()[k - 1].time_s);
      RC_ASSERT(relaxed.corners()[k].slope_w > relaxed.corners()[k - 1].slope_w);
    }
    const auto discrete = discrete_frontier(problem);
    const double t_min = discrete.front().time.nearest_seconds().value();
    RC_ASSERT(std::abs(static_cast<double>(relaxed.t_min_s()) - t_min) <= 1e-15 * t_min);
    long double scale = 0;
    for (core::ComputationId i = 0; i < problem.size(); ++i) {
      for (const Option& o : problem.options(i)) scale += std::abs(problem.effective_cost(i, o).value());
    }
    for (const DiscretePoint& p : discrete) {
      const long double bound = relaxed.cost_at(p.time.nearest_seconds().value());
      RC_ASSERT(bound <= p.cost.value() + 1e-12L * scale);
      ++compared;
    }
    // At their slow ends both are the sum of the least costs.
    RC_ASSERT(std::abs(static_cast<double>(relaxed.corners().front().cost_j) -
                       discrete.back().cost.value()) <= 1e-12 * static_cast<double>(scale));
  });
  EXPECT_GT(compared, 100);
}

TEST(ProblemRecipe, PrintsAsAnInitialiserAndIsDrawnFromBytes) {
  std::ostringstream text;
  text << ProblemRecipe{.ranks = 3, .pairs = true, .seed = 9};
  EXPECT_EQ(
      text.str(),
      "ProblemRecipe{.ranks = 3, .virtual_stages = 1, .microbatches = 1, .options = 1, .tensor = 1, "
      ".placement = "
      "Placement{0}, .order = Order{0}, .backward = Backward{0}, .shape = Shape{0}, .power = Power{0}, .lag "
      "= "
      "Lag{0}, .pairs = true, .pair_rows = false, .recompute = false, .inserts = false, .empty_first_input = "
      "false, .first_weight_rows = true, .knobs = false, .full_doubles = false, .seed = 9u}");
  EXPECT_EQ(recipe_from_bytes({}), ProblemRecipe{});
  const std::uint8_t bytes[] = {2, 1};
  EXPECT_EQ(recipe_from_bytes(bytes), (ProblemRecipe{.ranks = 3, .virtual_stages = 2}));
  EXPECT_EQ(recipe_from_seed(7), recipe_from_seed(7));
  EXPECT_FALSE(recipe_from_seed(7) == recipe_from_seed(8));
}

TEST(ProblemRecipe, OneStagePerRankIsExactly1F1B) {
  const auto schedule = make_schedule({.ranks = 3, .microbatches = 4, .order = Order::kOneFOneB, .seed = 11});
  EXPECT_EQ(canonical_text(schedule, 1, 1),
            "perseus-schedule/1 pp=3 tp=1 dp=1 virtual_stages=1\n"
            "0F0,0F1,0F2,0B0,0F3,0B1,0B2,0B3\n"
            "1F0,1F1,1B0,1F2,1B1,1F3,1B2,1B3\n"
            "2F0,2B0,2F1,2B1,2F2,2B2,2F3,2B3\n");
}

TEST(ProblemRecipe, EverySeedMakesAProblem) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed)
    EXPECT_NO_THROW((void)make_problem(recipe_from_seed(seed)));
}

}  // namespace
}  // namespace perseus::tests
