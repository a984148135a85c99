// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/evaluator.h"

#include <gtest/gtest.h>

#include "tests/support/property.h"

namespace perseus::baseline {
namespace {

TEST(Evaluator, AgreesWithCoreOnRandomProblems) {
  tests::check_property([](const tests::ProblemRecipe& recipe) {
    const core::Problem p = tests::make_problem(recipe);
    Evaluator evaluator(p);
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const core::Choice choice = tests::random_choice(p, seed);
      const core::ExactTiming timing = core::exact_timing(p, choice);
      RC_ASSERT(evaluator.makespan(choice) == timing.makespan);
      for (core::ComputationId i = 0; i < p.size(); ++i) RC_ASSERT(evaluator.start(i) == timing.start[i]);
    }
  });
}

TEST(Evaluator, CriticalPathsReachFromTheStartToTheEnd) {
  tests::check_property([](const tests::ProblemRecipe& recipe) {
    const core::Problem p = tests::make_problem(recipe);
    Evaluator evaluator(p);
    const core::Choice choice = tests::random_choice(p, 1);
    const core::ExactTime makespan = evaluator.makespan(choice);
    const auto path = evaluator.critical_path();
    core::ExactTime length;
    for (const core::ComputationId i : path) length += core::ExactTime(p.options(i)[choice[i]].time);
    RC_ASSERT(evaluator.end(path.front()) == makespan);
    RC_ASSERT(evaluator.start(path.back()) == core::ExactTime());
    RC_ASSERT(length <= makespan);
    if (p.inputs().p2p_lag == core::Seconds(0) && p.inputs().edge_lag.empty()) RC_ASSERT(length == makespan);
  });
}

}  // namespace
}  // namespace perseus::baseline
