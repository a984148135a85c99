// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/bound.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/brute_force.h"
#include "tests/support/property.h"
#include "tests/support/reference_lp.h"
#include "tests/support/small_problems.h"

namespace perseus::certify {
namespace {

using core::Certificate;
using core::ErrorCode;
using core::Joules;
using core::Problem;
using core::Seconds;
using tests::check_property;
using tests::random_flow;
using tests::row_flow;
using tests::two_in_a_row;

constexpr tests::RecipeLimits kTiny{.ranks = 2, .virtual_stages = 2, .microbatches = 2, .options = 3};

std::string refusal(const Problem& problem, const Certificate& certificate) {
  const auto status = check_flow(problem, certificate);
  return status ? "accepted" : status.error().text();
}

/// "Within the last digits": the bound is rounded down, by less than 1e-15 of these numbers.
void expect_just_below(const core::Result<Joules>& bound, double exact) {
  ASSERT_TRUE(bound.has_value());
  EXPECT_LE(bound->value(), exact);
  EXPECT_GE(bound->value(), exact * (1 - 1e-15));
}

TEST(ProvenBound, ByHand) {
  const Problem problem = two_in_a_row(2);
  // F = 4: F is best at 2 s (2 + 8), B at 1 or 3 s (7 + 4 = -1 + 12): A = 21; at T = 4: 21 - 16 = 5 = C(4).
  expect_just_below(proven_bound(problem, row_flow(4), Seconds(4), Seconds(4)), 2 * (5 + 4));
  expect_just_below(proven_bound(problem, row_flow(4), Seconds(4), Seconds(10)), 2 * (5 + 10));
  expect_just_below(proven_bound(problem, row_flow(4), Seconds(4), {}), 2 * (5 + 4));
  // The flow proves less at other targets, but what it proves is true: C(5) = 1 = 21 - 20, C(7) = -3 > 21
  // - 28.
  expect_just_below(proven_bound(problem, row_flow(4), Seconds(5), Seconds(5)), 2 * (1 + 5));
  EXPECT_EQ(proven_bound(problem, row_flow(4), Seconds(7), Seconds(7)), Joules(0));  // -7 + 7: no more than 0
}

TEST(ProvenBound, WeakFlowOfASelfTimedPlanCountsBlockingToTheEarliestEnd) {
  // F = 0 < 1 W: the least effective costs -3, and at least 2 s of blocking power, although the target is 7
  // s.
  const Problem problem = two_in_a_row();
  EXPECT_EQ(proven_bound(problem, row_flow(0), Seconds(7), {}), Joules(0));
  expect_just_below(proven_bound(problem, row_flow(0), Seconds(7), Seconds(7)), 4);
  // F = 1 = sum P: the bound does not depend on the end: -2 + 4 - 1 + 3 = 4.
  expect_just_below(proven_bound(problem, row_flow(1), Seconds(7), {}), 4);
  expect_just_below(proven_bound(problem, row_flow(1), Seconds(3), {}), 4);
}

TEST(ProvenBound, IsNeverAboveTheTrueOptimumForAnyFlow) {
  int compared = 0;
  check_property(
      [&](std::uint64_t seed) {
        const Problem problem = tests::make_problem(*tests::recipes(kTiny));
        RC_PRE(tests::assignment_count(problem, 2000).has_value());
        const auto frontier = tests::discrete_frontier(problem);
        const Certificate flow = random_flow(problem, seed);
        for (const auto& point : frontier) {
          const Seconds target = point.time.ceil_seconds();
          const Seconds later = 1.25 * target;
          for (const std::optional<Seconds> sync :
               {std::optional<Seconds>(), std::optional(target), std::optional(later)}) {
            const auto bound = proven_bound(problem, flow, target, sync);
            const auto least = tests::least_energy(problem, frontier, target, sync);
            RC_ASSERT(bound.has_value());
            RC_ASSERT(*bound <= *least * (1 + 1e-12));
            ++compared;
          }
        }
      },
      400);
  EXPECT_GT(compared, 1000);
}

TEST(ProvenBound, ReachesTheContinuousOptimumWithAnOptimalFlow) {
  check_property([](const tests::ProblemRecipe& recipe) {
    const Problem problem = tests::make_problem(recipe);
    const auto frontier = tests::ReferenceFrontier::solve(problem);
    const double blocking = problem.total_blocking_power().value();
    for (const long double share : {0.0L, 0.1L, 0.5L, 0.9L, 1.0L}) {
      const long double t = frontier.t_min_s() + share * (frontier.t_max_s() - frontier.t_min_s());
      // Rounded up, and a little more where that is what the reference rounds away.
      const Seconds target(std::nextafter(static_cast<double>(t), std::numeric_limits<double>::infinity()));
      const auto flow = tests::reference_certificate(problem, target);
      const auto bound = proven_bound(problem, flow, target, target);
      const long double optimum =
          (frontier.cost_at(target.value()) + static_cast<long double>(blocking) * target.value()) *
          recipe.tensor;
      RC_ASSERT(bound.has_value());
      RC_ASSERT(bound->value() <= optimum * (1 + 1e-12L));
      // Half a unit of 2^-20 W on the price of every computation's time.
      RC_ASSERT(bound->value() >= optimum * (1 - 1e-5L));
    }
  });
}

TEST(ProvenBound, RefusesTimesThatAreNone) {
  const Problem problem = two_in_a_row();
  const auto message = [&](double target, std::optional<Seconds> sync) {
    const auto bound = proven_bound(problem, row_flow(1), Seconds(target), sync);
    EXPECT_EQ(bound.error().code(), ErrorCode::kInvalidInput);
    return bound.error().message();
  };
  EXPECT_EQ(message(-1, {}), "target_time_s is -1 s; it must be 0 to 17592186044416 s");
  EXPECT_EQ(message(std::nan(""), {}), "target_time_s is nan s; it must be 0 to 17592186044416 s");
  EXPECT_EQ(message(1, Seconds(2e13)), "sync_time_s is 20000000000000 s; it must be 0 to 17592186044416 s");
}

TEST(CheckFlow, AcceptsAnyConservingFlow) {
  check_property([](const tests::ProblemRecipe& recipe, std::uint64_t seed) {
    const Problem problem = tests::make_problem(recipe);
    RC_ASSERT(check_flow(problem, random_flow(problem, seed)).has_value());
  });
}

TEST(CheckFlow, EveryChangedNumberIsCaught) {
  check_property(
      [](const tests::ProblemRecipe& recipe, std::uint64_t seed) {
        const Problem problem = tests::make_problem(recipe);
        const Certificate honest = random_flow(problem, seed);
        tests::SplitMix random(seed + 1);
        for (const std::int64_t change : {std::int64_t{-1}, std::int64_t{1}}) {
          Certificate c = honest;
          c.value += change;
          RC_ASSERT(!check_flow(problem, c).has_value());
          c = honest;
          c.computation[random.below(problem.size())] += change;
          RC_ASSERT(!check_flow(problem, c).has_value());
          if (honest.edges.empty()) continue;
          // More on one edge takes from the source at its end and from the sink at its start; if there is
          // enough of both, the flow goes on being one of another value, and the value is what gives it away.
          c = honest;
          c.edges[random.below(static_cast<std::uint32_t>(c.edges.size()))].flow += change;
          RC_ASSERT(!check_flow(problem, c).has_value());
        }
      },
      300);
}

TEST(CheckFlow, NamesWhatIsWrong) {
  const Problem problem = two_in_a_row();
  EXPECT_EQ(refusal(problem, row_flow(5)), "accepted");
  Certificate c = row_flow(5);
  c.value = -1;
  EXPECT_EQ(refusal(problem, c), "certificate: its value -1 is negative");
  c.value = 6;
  EXPECT_EQ(refusal(problem, c), "certificate: the source feeds 5 in all, but its value is 6");
  c = row_flow(5);
  c.computation.push_back(0);
  EXPECT_EQ(refusal(problem, c), "certificate: holds flows of 3 computations; the pipeline has 2");
  c = row_flow(5);
  c.computation[1] = -5;
  EXPECT_EQ(refusal(problem, c), "certificate: the flow -5 through 0B0 on rank 0 is negative");
  c.computation[1] = 4;
  EXPECT_EQ(refusal(problem, c),
            "certificate: 0B0 on rank 0: its edges in carry 5, but the flow through it is 4");
  c.computation = {5, 7};
  c.value = 7;
  c.edges = {{0, 5}};
  EXPECT_EQ(refusal(problem, c), "accepted");  // 2 W enter at the second computation
  c.computation = {8, 5};
  EXPECT_EQ(refusal(problem, c), "certificate: the source feeds 8 in all, but its value is 7");
  c = row_flow(5);
  c.computation[0] = 3;
  c.value = 3;
  EXPECT_EQ(refusal(problem, c),
            "certificate: 0F0 on rank 0: its edges out carry 5, but the flow through it is 3");
  c = row_flow(5);
  c.edges[0].edge = 1;
  EXPECT_EQ(refusal(problem, c), "certificate: edge 1 does not exist; there are 1");
  c.edges[0] = {0, 0};
  EXPECT_EQ(refusal(problem, c), "certificate: the flow 0 on edge 0 is not above 0");
  c.edges = {{0, 2}, {0, 3}};
  EXPECT_EQ(refusal(problem, c), "certificate: edge 0 is out of order");
  c.unit_exponent = -1001;
  EXPECT_EQ(refusal(problem, c), "certificate: unit exponent -1001 is outside -1000 to 1000");
  EXPECT_EQ(check_flow(problem, c).error().code(), ErrorCode::kLimit);
}

TEST(CheckFlow, SumsOfTheLargestFlowsDoNotOverflow) {
  // Every computation takes the most from the source and gives it to the sink: in 64 bits the sum would be
  // -2.
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(refusal(two_in_a_row(), {.value = 5, .computation = {kMost, kMost}}),
            "certificate: the source feeds 18446744073709551614 in all, but its value is 5");
}

}  // namespace
}  // namespace perseus::certify
