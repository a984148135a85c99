// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "perseus/core/pipeline.h"
#include "tests/support/property.h"

namespace perseus::core {
namespace {

using tests::check_property;
using tests::ProblemRecipe;

TEST(PipelineProperty, EveryInterleavingIsAccepted) {
  check_property(
      [](const ProblemRecipe& recipe) {
        const Schedule schedule = tests::make_schedule(recipe);
        const auto pipeline = Pipeline::build(schedule);
        RC_ASSERT(pipeline.has_value());
        RC_ASSERT(pipeline->schedule().ranks == schedule.ranks);
      },
      300);
}

TEST(PipelineProperty, TopologicalOrderIsAPermutationThatRespectsEveryEdge) {
  check_property([](const ProblemRecipe& recipe) {
    const auto pipeline = Pipeline::build(tests::make_schedule(recipe)).value();
    const auto order = pipeline.topological_order();
    std::vector<std::uint32_t> place(pipeline.size(), pipeline.size());
    for (std::uint32_t k = 0; k < order.size(); ++k) place[order[k]] = k;
    RC_ASSERT(order.size() == pipeline.size());
    RC_ASSERT(std::ranges::count(place, pipeline.size()) == 0);
    for (const Edge& e : pipeline.edges()) RC_ASSERT(place[e.from] < place[e.to]);
  });
}

TEST(PipelineProperty, EdgesAreSortedUniqueAndIndexed) {
  check_property([](const ProblemRecipe& recipe) {
    const auto pipeline = Pipeline::build(tests::make_schedule(recipe)).value();
    const auto edges = pipeline.edges();
    const auto key = [](const Edge& e) { return std::pair(e.from, e.to); };
    RC_ASSERT(std::ranges::adjacent_find(edges, [&](auto& a, auto& b) { return key(a) >= key(b); }) ==
              edges.end());
    for (EdgeId e = 0; e < edges.size(); ++e) {
      RC_ASSERT(pipeline.first_out(edges[e].from) <= e);
      RC_ASSERT(e < pipeline.first_out(edges[e].from + 1));
      RC_ASSERT(edges[e].cross_rank == (pipeline.rank_of(edges[e].from) != pipeline.rank_of(edges[e].to)));
    }
    RC_ASSERT(pipeline.first_out(pipeline.size()) == edges.size());
  });
}

}  // namespace
}  // namespace perseus::core
