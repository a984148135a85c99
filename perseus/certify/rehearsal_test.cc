// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/rehearsal.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/property.h"

namespace perseus::certify {
namespace {

using core::ComputationId;
using core::ExactTime;
using core::Problem;
using core::Seconds;
using tests::check_property;
using tests::ProblemRecipe;

TEST(Rehearsal, AgreesWithTheLongestPathOverThePipelinesEdges) {
  check_property(
      [](const ProblemRecipe& recipe, std::uint64_t seed) {
        const Problem problem = tests::make_problem(recipe);
        const core::Choice choice = tests::random_choice(problem, seed);
        const auto found =
            rehearse(problem, [&](ComputationId i) { return problem.options(i)[choice[i]].time; });
        RC_ASSERT(found.has_value());
        RC_ASSERT(found->end == core::exact_timing(problem, choice).makespan);
      },
      500);
}

TEST(Rehearsal, BusyTimeIsTheSumOfARanksComputations) {
  check_property([](const ProblemRecipe& recipe) {
    const Problem problem = tests::make_problem(recipe);
    const auto found = rehearse(problem, [](ComputationId i) { return Seconds(i + 1); }).value();
    for (std::uint32_t r = 0; r < recipe.ranks; ++r) {
      ExactTime sum;
      for (ComputationId i = problem.pipeline().first_of_rank(r); i < problem.pipeline().first_of_rank(r + 1);
           ++i) {
        sum += ExactTime(Seconds(i + 1));
      }
      RC_ASSERT(found.busy[r] == sum);
    }
  });
}

/// Two stages, one microbatch each way, lags 2 s forwards and 5 s backwards.
TEST(Rehearsal, LagsCountOnceForEachTransferAndDirection) {
  using core::Kind;
  core::Schedule schedule{.name = "two", .microbatches = 1};
  schedule.ranks = {{{.kind = Kind::kForward}, {.kind = Kind::kBackward}},
                    {{.kind = Kind::kForward, .stage = 1}, {.kind = Kind::kBackward, .stage = 1}}};
  core::ProblemInputs inputs;
  for (std::uint32_t s = 0; s < 2; ++s) {
    for (const char* name : {"backward", "forward"}) {
      inputs.profile.entries.push_back({s, name, {}, {{.clock = core::Megahertz(1000), .time = Seconds(1)}}});
    }
  }
  inputs.blocking_power = {core::Watts(0), core::Watts(0)};
  inputs.p2p_lag = Seconds(2);
  inputs.edge_lag[{1, 0}] = Seconds(5);
  const Problem problem =
      Problem::build(core::Pipeline::build(std::move(schedule)).value(), std::move(inputs)).value();
  const auto found = rehearse(problem, [&](ComputationId i) { return problem.options(i)[0].time; }).value();
  EXPECT_EQ(found.end, ExactTime(Seconds(11)));  // 1 + 2 + 1 + 1 + 5 + 1
  EXPECT_EQ(found.busy, (std::vector<ExactTime>{ExactTime(Seconds(2)), ExactTime(Seconds(2))}));
  EXPECT_EQ(transfer_lag(problem, 0, 0), Seconds(0));
  EXPECT_EQ(transfer_lag(problem, 0, 1), Seconds(2));
  EXPECT_EQ(transfer_lag(problem, 1, 0), Seconds(5));
}

}  // namespace
}  // namespace perseus::certify
