// SPDX-License-Identifier: Apache-2.0
//
// Problems small enough to be solved by hand, and flows through any problem.
#pragma once

#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "tests/support/random_problem.h"

namespace perseus::tests {

/// One stage, one microbatch: F (1 s, 10 J), (2 s, 4 J), (4 s, 2 J), then B (1 s, 8 J), (3 s, 2 J); 1 W while
/// blocked. Effective costs: F 9, 2, -2 (slopes 7 and 2), B 7, -1 (slope 4); so C falls by 7 W from 2 to 3 s,
/// by 4 W to 5 s and by 2 W to 7 s, from 16 J to -3 J.
inline core::Problem two_in_a_row(std::uint32_t tensor = 1) {
  using core::Kind;
  core::Schedule schedule{.name = "row", .microbatches = 1};
  schedule.ranks = {{{.kind = Kind::kForward}, {.kind = Kind::kBackward}}};
  const auto option = [](std::uint32_t mhz, double t, double e) {
    return core::Option{.clock = core::Megahertz(mhz), .time = core::Seconds(t), .energy = core::Joules(e)};
  };
  core::ProblemInputs inputs;
  inputs.profile.entries = {{0, "backward", {}, {option(900, 1, 8), option(300, 3, 2)}},
                            {0, "forward", {}, {option(900, 1, 10), option(600, 2, 4), option(300, 4, 2)}}};
  inputs.blocking_power = {core::Watts(1)};
  inputs.parallel.tensor = tensor;
  return core::Problem::build(core::Pipeline::build(std::move(schedule)).value(), std::move(inputs)).value();
}

/// A flow of `value` whole watts through both computations of two_in_a_row().
inline core::Certificate row_flow(std::int64_t value) {
  core::Certificate c{.value = value, .computation = {value, value}};
  if (value > 0) c.edges = {{0, value}};
  return c;
}

/// Any conserving flow: random walks along edges, each with some flow; units of 2^-10 W.
inline core::Certificate random_flow(const core::Problem& problem, std::uint64_t seed) {
  SplitMix random(seed);
  const core::Pipeline& pipeline = problem.pipeline();
  core::Certificate c{.unit_exponent = -10};
  c.computation.resize(problem.size(), 0);
  std::vector<std::int64_t> on_edge(pipeline.edges().size(), 0);
  for (std::uint32_t walk = random.below(20); walk > 0; --walk) {
    const std::int64_t flow = 1 + random.below(200 << 10);
    core::ComputationId i = random.below(problem.size());
    c.value += flow;
    c.computation[i] += flow;
    while (pipeline.first_out(i) != pipeline.first_out(i + 1) && !random.chance(0.1)) {
      const core::EdgeId e =
          pipeline.first_out(i) + random.below(pipeline.first_out(i + 1) - pipeline.first_out(i));
      on_edge[e] += flow;
      i = pipeline.edges()[e].to;
      c.computation[i] += flow;
    }
  }
  for (core::EdgeId e = 0; e < on_edge.size(); ++e) {
    if (on_edge[e] > 0) c.edges.push_back({e, on_edge[e]});
  }
  return c;
}

}  // namespace perseus::tests
