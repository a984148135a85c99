// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/walk.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "perseus/solver/scaling.h"
#include "tests/support/property.h"

namespace perseus::solver {
namespace {

using Corners = std::vector<std::pair<std::int64_t, std::int64_t>>;

/// Walks to T_min; every state must be an optimum. Where the slope changes, and to what.
Corners walked(const Network& network, const Faces& faces) {
  Corners corners;
  for (Walk walk(network, slowest_optimum(network), faces);; walk.advance()) {
    RC_ASSERT(check_optimum(network, walk.optimum_at(walk.time())) == "");
    if (walk.at_minimum()) {
      if (!corners.empty() && corners.back().first == walk.time()) corners.pop_back();
      corners.emplace_back(walk.time(), 0);
      return corners;
    }
    const std::int64_t between = walk.time() - (walk.time() - walk.next_time()) / 3;
    RC_ASSERT(check_optimum(network, walk.optimum_at(between)) == "");
    if (corners.empty() || corners.back().second != walk.slope()) {
      corners.emplace_back(walk.time(), walk.slope());
    }
  }
}

TEST(Walk, IsAtAnOptimumAllTheWayWithAndWithoutADrawing) {
  int drawn = 0;
  tests::check_property(
      [&](const tests::ProblemRecipe& recipe) {
        const core::Problem problem = tests::make_problem(recipe);
        const Network network = contract(problem, scale(problem).value()).network;
        const Faces faces = draw(network);
        const Corners corners = walked(network, {});
        if (faces.count > 0) {
          ++drawn;
          RC_ASSERT(walked(network, faces) == corners);
        }
      },
      200);
  EXPECT_GT(drawn, 50);  // else the recipes no longer test the drawing
}

TEST(Walk, GoesOnFromAnyStateAsIfItHadNotStopped) {
  tests::check_property(
      [](const tests::ProblemRecipe& recipe, std::uint32_t part) {
        const core::Problem problem = tests::make_problem(recipe);
        const Network network = contract(problem, scale(problem).value()).network;
        const Faces faces = draw(network);
        Walk walk(network, slowest_optimum(network));
        for (std::uint32_t i = 0; i < part % 100 && !walk.at_minimum(); ++i) walk.advance();
        Walk again(network, walk.optimum_at(walk.time()), faces);
        while (!walk.at_minimum()) {
          RC_ASSERT(again.time() == walk.time());
          RC_ASSERT(again.slope() == walk.slope());
          const std::int64_t before = walk.slope();
          while (!walk.at_minimum() && walk.slope() == before) walk.advance();
          while (!again.at_minimum() && again.slope() == before) again.advance();
        }
        RC_ASSERT(again.at_minimum());
        RC_ASSERT(again.time() == walk.time());
      },
      100);
}

}  // namespace
}  // namespace perseus::solver
