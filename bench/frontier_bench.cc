// SPDX-License-Identifier: Apache-2.0
//
// The exact frontier of the synthetic pipeline (support/synthetic.h), complete and sampled, and one plan from
// it. One core. `--benchmark_filter=Frontier/8/128` runs one size; 64 x 128 takes ten seconds, 64 x 1,024
// two minutes.
#include <benchmark/benchmark.h>

#include <stdexcept>
#include <vector>

#include "bench/support/synthetic.h"
#include "perseus/solver/frontier.h"

namespace perseus::bench {
namespace {

core::Problem problem_of(const benchmark::State& state) {
  auto problem = synthetic_problem(static_cast<std::uint32_t>(state.range(0)),
                                   static_cast<std::uint32_t>(state.range(1)));
  if (!problem) throw std::logic_error(problem.error().text());
  return *std::move(problem);
}

void solve(benchmark::State& state, solver::Range range) {
  const core::Problem problem = problem_of(state);
  for ([[maybe_unused]] auto _ : state) {
    const auto frontier = solver::Frontier::solve(problem, {.range = range, .progress = {}});
    if (!frontier) return state.SkipWithError(frontier.error().text().c_str());
    state.counters["breakpoints"] = static_cast<double>(frontier->breakpoint_count());
    state.counters["checkpoints"] = static_cast<double>(frontier->data().checkpoints.size());
  }
  state.counters["computations"] = problem.size();
}

void frontier_to_t_star(benchmark::State& state) {
  solve(state, solver::Range::kTStar);
}
void frontier_to_t_max(benchmark::State& state) {
  solve(state, solver::Range::kTMax);
}

/// The optimum at one target from a computed frontier: 64 targets in turn, spread over the range.
void point_of_frontier(benchmark::State& state) {
  const core::Problem problem = problem_of(state);
  const auto frontier = solver::Frontier::solve(problem).value();
  const auto length = frontier.t_star() - frontier.t_min();
  int k = 0;
  for ([[maybe_unused]] auto _ : state) {
    const auto point = frontier.at(frontier.t_min() + (k++ % 64) / 63.0 * length);
    benchmark::DoNotOptimize(point->certificate.value);
  }
}

void sample_40(benchmark::State& state) {
  const core::Problem problem = problem_of(state);
  const core::Seconds fastest =
      core::exact_timing(problem, core::fastest_choice(problem)).makespan.ceil_seconds();
  std::vector<core::Seconds> targets;
  targets.reserve(40);
  for (int k = 0; k < 40; ++k) targets.push_back((1.5 - 0.5 * k / 39) * fastest);
  targets.back() = fastest;
  for ([[maybe_unused]] auto _ : state) {
    const auto points = solver::sample(problem, targets);
    if (!points) return state.SkipWithError(points.error().text().c_str());
  }
}

#define PERSEUS_SMALL_SIZES ->Args({4, 8})->Args({8, 32})->Args({8, 128})
#define PERSEUS_LARGE_SIZES \
  ->Args({8, 512})->Args({16, 128})->Args({16, 512})->Args({32, 128})->Args({64, 128})->Args({64, 1024})
BENCHMARK(frontier_to_t_star) PERSEUS_SMALL_SIZES PERSEUS_LARGE_SIZES->Unit(benchmark::kMillisecond);
BENCHMARK(frontier_to_t_max) PERSEUS_SMALL_SIZES->Args({16, 512})->Unit(benchmark::kMillisecond);
BENCHMARK(point_of_frontier) PERSEUS_SMALL_SIZES->Args({16, 128})->Unit(benchmark::kMicrosecond);
BENCHMARK(sample_40) PERSEUS_SMALL_SIZES->Args({16, 128})->Args({64, 1024})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace perseus::bench
