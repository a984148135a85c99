// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise_forest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "perseus/solver/frontier.h"
#include "perseus/solver/realise_events.h"
#include "perseus/solver/realise_slack.h"
#include "tests/support/brute_force.h"
#include "tests/support/pipelines.h"
#include "tests/support/property.h"

namespace perseus::solver::internal {
namespace {

using core::Seconds;
using tests::value_or_throw;

/// The flat form at a target, synchronised there: what is left to choose is effective cost alone.
FlatProblem flat_problem(const core::Problem& problem, Seconds target) {
  core::Certificate none;
  none.computation.assign(problem.size(), 0);
  return value_or_throw(flatten(problem, problem.pipeline().topological_order(), target, none, false));
}

Rungs fastest(const FlatProblem& flat) {
  Rungs rungs(flat.size);
  for (Position p = 0; p < flat.size; ++p) rungs[p] = flat.ladder(p).first;
  return rungs;
}

Ticks makespan(const FlatProblem& flat, const Rungs& rungs) {
  const LongestPaths paths(flat, rungs);
  Ticks end = 0;
  for (Position p = 0; p < flat.size; ++p) end = std::max(end, paths.end(p));
  return end;
}

/// Half-way between the fastest options and all that slower clocks can give.
Seconds middle(const core::Problem& problem) {
  const auto frontier = value_or_throw(Frontier::solve(problem, {.range = Range::kTMax, .progress = {}}));
  return std::max(frontier.t_min(), 0.5 * (frontier.t_min() + frontier.t_max()));
}

TEST(EventGraph, EndsThatMeetTheSameStartsAreOneEvent) {
  // Rank 0: F0 F1 B0 B1, rank 1: F0 B0 F1 B1. Beside the two ends of time: the end of F0 on rank 0; of F0 and
  // of F1 on rank 1; of F1 on rank 0 with B0 on rank 1; of B0 on rank 0 with B1 on rank 1.
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 2}), 2, 2);
  const auto flat = flat_problem(problem, middle(problem));
  const EventGraph graph(flat);
  EXPECT_EQ(graph.arcs().size() - flat.size, 0U);
  EXPECT_EQ(graph.size(), 7U);
  for (Position p = 0; p < flat.size; ++p) {
    EXPECT_EQ(flat.in_edges(p).empty(), graph.start_of(p) == EventGraph::kSource);
    EXPECT_EQ(flat.out_edges(p).empty(), graph.end_of(p) == EventGraph::kSink);
  }
}

TEST(EventGraph, SteadyStateHasOneEventForTwoComputations) {
  const auto count = [](std::uint32_t microbatches) {
    const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 4}), 4, microbatches);
    return EventGraph(flat_problem(problem, middle(problem))).size();
  };
  // One microbatch more: 8 computations, 16 starts and ends. Both ends of a join and both starts behind it
  // are one; so are end and start where a rank alone goes on (first and last stage).
  EXPECT_EQ(count(21) - count(20), 5U);
}

TEST(EventGraph, LagsKeepEventsApart) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 2}), 2, 2, 85, 0.001);
  const auto flat = flat_problem(problem, middle(problem));
  const EventGraph graph(flat);
  for (const EventArc& arc : graph.arcs()) {
    EXPECT_NE(arc.from, arc.to);
    if (arc.computation != EventArc::kLagOnly) {
      EXPECT_EQ(arc.lag, 0);
    }
  }
  EXPECT_TRUE(std::ranges::any_of(graph.arcs(), [](const EventArc& arc) { return arc.lag > 0; }));
}

TEST(EventTimes, LeaveRoomForEveryArc) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const auto problem = tests::make_problem(recipe);
        const auto flat = flat_problem(problem, middle(problem));
        const EventGraph graph(flat);
        const Rungs rungs = fastest(flat);
        const auto time = event_times(flat, graph, rungs);
        RC_ASSERT(time[EventGraph::kSource] == 0);
        RC_ASSERT(time[EventGraph::kSink] == flat.target);
        for (const EventArc& arc : graph.arcs()) {
          const Ticks needed =
              arc.computation == EventArc::kLagOnly ? arc.lag : flat.time[rungs[arc.computation]];
          RC_ASSERT(time[arc.to] - time[arc.from] >= needed);
        }
      },
      100);
}

TEST(ForestSearch, NeverEndsLateAndWithoutNoiseNeverCostsMore) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const auto problem = tests::make_problem(recipe);
        const auto flat = flat_problem(problem, middle(problem));
        ForestSearch search(flat, fastest(flat), 7);
        double before = objective(flat, fastest(flat));
        const double rounding = 1e-5 * (1 + std::abs(before));
        for (const double share : {1.0, 0.01, 1e-3, 1e-4}) {
          const auto step =
              std::max<Ticks>(static_cast<Ticks>(share * static_cast<double>(flat.target)) / 64, 1);
          search.sweep(step, 0);
          const double now = objective(flat, search.rungs());
          RC_ASSERT(makespan(flat, search.rungs()) <= flat.target);
          RC_ASSERT(now <= before + rounding);
          before = now;
          search.sweep(step, 0.1);
          RC_ASSERT(makespan(flat, search.rungs()) <= flat.target);
          before = objective(flat, search.rungs());
        }
      },
      100);
}

/// A profile whose times are whole multiples of 2^-10 s, with any costs that fall.
core::Profile gridded_profile() {
  core::Profile profile;
  const std::vector<std::vector<std::pair<int, double>>> options = {
      {{7, 90}, {9, 71}, {12, 60}, {17, 52}},    // backward
      {{5, 40}, {6, 33}, {10, 21}, {11, 20.5}},  // forward
  };
  for (const bool forward : {false, true}) {
    core::ProfileEntry entry{
        .stage = 0, .instruction = forward ? "forward" : "backward", .stage_b = {}, .options = {}};
    std::uint32_t clock = 1000;
    for (const auto& [time, energy] : options[forward ? 1 : 0]) {
      entry.options.push_back({.clock = core::Megahertz(clock -= 100),
                               .time = Seconds(std::ldexp(time, -10)),
                               .energy = core::Joules(energy)});
    }
    profile.entries.push_back(std::move(entry));
  }
  return profile;
}

TEST(ForestSearch, IsExactOnAPath) {
  // One stage: the events are a path, so each forest is all of it and dynamic programming finds the optimum.
  const auto problem = tests::one_f_one_b_problem(gridded_profile(), 1, 3, 10);
  const auto all = tests::discrete_frontier(problem);
  for (int time = 36; time <= 84; ++time) {
    const Seconds target(std::ldexp(time, -10));
    const auto flat = flat_problem(problem, target);
    ForestSearch search(flat, fastest(flat), 3);
    search.sweep(Ticks{1} << (-10 - flat.tick_exponent), 0);
    const auto least = tests::least_energy(problem, all, target, target);
    ASSERT_TRUE(least.has_value());
    const double waiting = (problem.total_blocking_power() * target).value();
    EXPECT_NEAR(objective(flat, search.rungs()) + waiting, least->value(), 1e-9 * least->value()) << time;
  }
}

TEST(ForestSearch, EqualSeedsGiveEqualChoices) {
  const auto problem = tests::one_f_one_b_problem(tests::synthetic_profile({.stages = 4}), 4, 12);
  const auto flat = flat_problem(problem, middle(problem));
  const auto after = [&](std::uint64_t seed) {
    ForestSearch search(flat, fastest(flat), seed);
    for (int k = 0; k < 20; ++k) search.sweep(flat.target / 20'000, 0.05);
    return search.rungs();
  };
  EXPECT_EQ(after(1), after(1));
  EXPECT_NE(after(1), after(2));
}

}  // namespace
}  // namespace perseus::solver::internal
