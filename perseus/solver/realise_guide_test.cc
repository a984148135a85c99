// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_guide.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "perseus/solver/frontier.h"
#include "perseus/solver/realise_slack.h"
#include "tests/support/pipelines.h"
#include "tests/support/property.h"

namespace perseus::solver::internal {
namespace {

using core::Seconds;
using tests::value_or_throw;

/// A relaxed optimum with its problem in flat form.
struct Rounding {
  Relaxed relaxed;
  FlatProblem flat;
  Guide guide;
};

Rounding at(const core::Problem& problem, const Frontier& frontier, Seconds target) {
  Relaxed relaxed = value_or_throw(frontier.at(target));
  FlatProblem flat = value_or_throw(
      flatten(problem, problem.pipeline().topological_order(), relaxed.target, relaxed.certificate, true));
  Guide guide = make_guide(flat, relaxed);
  return {std::move(relaxed), std::move(flat), std::move(guide)};
}

Frontier whole_frontier(const core::Problem& problem) {
  return value_or_throw(Frontier::solve(problem, {.range = Range::kTMax, .progress = {}}));
}

Ticks makespan(const FlatProblem& flat, const Rungs& rungs) {
  const LongestPaths paths(flat, rungs);
  Ticks end = 0;
  for (Position p = 0; p < flat.size; ++p) end = std::max(end, paths.end(p));
  return end;
}

TEST(Guide, KeepingOneDeadlineLeavesRoomForTheNext) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const auto problem = tests::make_problem(recipe);
        const auto frontier = whole_frontier(problem);
        const Seconds middle = 0.5 * (frontier.t_min() + std::max(frontier.t_min(), frontier.t_max()));
        const Rounding r = at(problem, frontier, std::max(frontier.t_min(), middle));
        for (Position p = 0; p < r.flat.size; ++p) {
          RC_ASSERT(r.guide.deadline[p] <= r.flat.target);
          for (const FlatEdge& e : r.flat.out_edges(p)) {
            const Ticks fastest = r.flat.time[r.flat.ladder(e.other).first];
            RC_ASSERT(r.guide.deadline[p] + e.lag + fastest <= r.guide.deadline[e.other]);
          }
        }
      },
      100);
}

TEST(RoundInTime, NeverEndsLate) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const auto problem = tests::make_problem(recipe);
        const auto frontier = whole_frontier(problem);
        for (const double share : {0.0, 0.3, 1.0}) {
          const Seconds target = frontier.t_min() + share * (frontier.t_max() - frontier.t_min());
          const Rounding r = at(problem, frontier, std::max(frontier.t_min(), target));
          for (const double drift : {0.0, 0.1, 0.4, 10.0}) {
            RC_ASSERT(makespan(r.flat, round_in_time(r.flat, r.guide, drift)) <= r.flat.target);
          }
        }
      },
      100);
}

TEST(RoundInTime, IsExactAtBothEndsOfTheFrontier) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 1}), 1, 4);
  const auto frontier = whole_frontier(problem);
  // One stage: at T_min nothing has room for a slower option.
  const Rounding fast = at(problem, frontier, frontier.t_min());
  for (const std::uint32_t r : round_in_time(fast.flat, fast.guide, 0.1)) {
    EXPECT_TRUE(std::ranges::any_of(fast.flat.ladders, [&](const Ladder& l) { return l.first == r; }));
  }
  // At T_max everything takes its cheapest option, which is the last of its ladder.
  const Rounding slow = at(problem, frontier, frontier.t_max());
  const Rungs rungs = round_in_time(slow.flat, slow.guide, 0.1);
  for (Position p = 0; p < slow.flat.size; ++p) {
    EXPECT_EQ(rungs[p], slow.flat.ladder(p).first + slow.flat.ladder(p).count - 1);
  }
}

TEST(FlatProblem, LastInputSettlesAStart) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 3}), 3, 5);
  const Rounding r = at(problem, whole_frontier(problem), Seconds(1e6));
  for (Position v = 0; v < r.flat.size; ++v) {
    std::vector<Position> inputs;
    for (const FlatEdge& e : r.flat.in_edges(v)) inputs.push_back(e.other);
    EXPECT_TRUE(std::ranges::is_sorted(inputs));
    for (Position p = 0; p < r.flat.size; ++p) {
      EXPECT_EQ(r.flat.is_last_input(p, v), !inputs.empty() && inputs.back() == p);
    }
  }
}

}  // namespace
}  // namespace perseus::solver::internal
