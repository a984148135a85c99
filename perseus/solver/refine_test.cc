// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/refine.h"

#include <gtest/gtest.h>

#include "perseus/solver/scaling.h"
#include "tests/support/property.h"

namespace perseus::solver {
namespace {

Int128 cost_of(const Network& network, const Optimum& optimum) {
  Int128 sum = 0;
  for (const Arc& a : network.arcs) {
    sum += network.curves.cost(a.curve, optimum.node_time[a.head] - optimum.node_time[a.tail]);
  }
  return sum;
}

TEST(Refine, FindsTheOptimumThatTheWalkFinds) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe, std::uint32_t part, std::uint32_t step) {
        const core::Problem problem = tests::make_problem(recipe);
        const Scaled scaled = scale(problem).value();
        const Network network = contract(problem, scaled).network;
        const Network coarse = coarsened(network, 2 + step % 8);
        Walk rough(coarse, slowest_optimum(coarse));
        for (std::uint32_t i = 0; i < part % 64 && !rough.at_minimum(); ++i) rough.advance();
        const auto refined = refine(network, rough.optimum_at(rough.time()));
        RC_ASSERT(refined.has_value());

        Walk exact(network, slowest_optimum(network));
        while (!exact.at_minimum() && exact.next_time() >= rough.time() && exact.time() > rough.time())
          exact.advance();
        RC_ASSERT(cost_of(network, *refined) == cost_of(network, exact.optimum_at(rough.time())));

        // The walk goes on from it as from its own.
        Walk onward(network, *refined);
        while (!onward.at_minimum()) onward.advance();
        while (!exact.at_minimum()) exact.advance();
        RC_ASSERT(onward.time() == exact.time());
        RC_ASSERT(cost_of(network, onward.optimum_at(onward.time())) ==
                  cost_of(network, exact.optimum_at(exact.time())));
      },
      200);
}

TEST(Refine, MendsAFlowThatFitsNowhere) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe) {
        const core::Problem problem = tests::make_problem(recipe);
        const Scaled scaled = scale(problem).value();
        const Network network = contract(problem, scaled).network;
        Optimum rough = slowest_optimum(network);
        for (std::size_t a = 0; a < rough.arc_flow.size(); ++a)
          rough.arc_flow[a] = static_cast<std::int64_t>(a) << 40;
        const auto refined = refine(network, rough);
        RC_ASSERT(refined.has_value());
        RC_ASSERT(cost_of(network, *refined) == 0);
      },
      50);
}

}  // namespace
}  // namespace perseus::solver
