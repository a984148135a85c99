// SPDX-License-Identifier: Apache-2.0
//
// One plan from a computed frontier: the relaxed optimum at a target, and its realisation.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "perseus/solver/frontier.h"
#include "perseus/solver/realise.h"
#include "support/synthetic.h"

namespace perseus {
namespace {

/// The frontier of bench/support's pipeline, or a skipped benchmark.
core::Result<solver::Frontier> frontier_of(std::uint32_t stages, std::uint32_t microbatches) {
  PERSEUS_ASSIGN_OR_RETURN(const core::Problem problem, bench::synthetic_problem(stages, microbatches));
  return solver::Frontier::solve(problem);
}

/// Target half-way between T_min and T*.
core::Seconds middle(const solver::Frontier& f) {
  return 0.5 * (f.t_min() + f.t_star());
}

void realise(benchmark::State& state) {
  const auto frontier =
      frontier_of(static_cast<std::uint32_t>(state.range(0)), static_cast<std::uint32_t>(state.range(1)));
  if (!frontier) return state.SkipWithError(frontier.error().text().c_str());
  const auto relaxed = frontier->at(middle(*frontier));
  if (!relaxed) return state.SkipWithError(relaxed.error().text().c_str());
  double gap = 0;
  for ([[maybe_unused]] auto _ : state) {
    const auto plan = solver::realise(frontier->problem(), *relaxed);
    if (!plan) return state.SkipWithError(plan.error().text().c_str());
    gap = plan->gap;
  }
  state.counters["gap_ppm"] = 1e6 * gap;
}
BENCHMARK(realise)->Args({4, 8})->Args({8, 32})->Args({8, 128})->Unit(benchmark::kMicrosecond);

void plan_from_frontier(benchmark::State& state) {
  const auto frontier =
      frontier_of(static_cast<std::uint32_t>(state.range(0)), static_cast<std::uint32_t>(state.range(1)));
  if (!frontier) return state.SkipWithError(frontier.error().text().c_str());
  for ([[maybe_unused]] auto _ : state) {
    const auto relaxed = frontier->at(middle(*frontier));
    if (!relaxed) return state.SkipWithError(relaxed.error().text().c_str());
    benchmark::DoNotOptimize(solver::realise(frontier->problem(), *relaxed));
  }
}
BENCHMARK(plan_from_frontier)->Args({8, 128})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace perseus
