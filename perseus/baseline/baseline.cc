// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/baseline.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "perseus/baseline/clock_levels.h"

namespace perseus::baseline {
namespace {

using core::Choice;
using core::Problem;
using core::Seconds;

Choice choice_of_sets(const Problem& problem, std::span<const std::uint32_t> option_of_set) {
  Choice choice(problem.size());
  for (core::ComputationId i = 0; i < problem.size(); ++i)
    choice[i] = option_of_set[problem.option_set_of(i)];
  return choice;
}

}  // namespace

Baseline evaluate(const Problem& problem, std::string name, Choice choice, const Counting& counting) {
  const Seconds time = core::exact_timing(problem, choice).makespan.ceil_seconds();
  const Seconds sync = std::max(time, counting.sync_time.value_or(time));
  const core::Joules energy = core::pipeline_energy(problem, choice, sync);
  return {.name = std::move(name), .choice = std::move(choice), .time = time, .energy = energy};
}

Baseline all_max(const Problem& problem, const Counting& counting) {
  return evaluate(problem, "all-max", core::fastest_choice(problem), counting);
}

std::vector<Baseline> single_clock_sweep(const Problem& problem, const Counting& counting) {
  const SetTable table(problem);
  std::vector<std::uint32_t> sets(problem.option_set_count());
  std::iota(sets.begin(), sets.end(), 0U);
  std::vector<Baseline> sweep;
  for (const Level& level : clock_levels(problem, table, sets)) {
    sweep.push_back(evaluate(problem, fmt::format("single clock {} MHz", level.clock.value()),
                             choice_of_sets(problem, level.options), counting));
  }
  return sweep;
}

core::Result<Baseline> best_single_clock(const Problem& problem, Seconds target, const Counting& counting) {
  auto sweep = single_clock_sweep(problem, counting);
  if (sweep.empty()) {
    return core::fail(core::ErrorCode::kInfeasible, "no clock is common to all computations of the profile");
  }
  const Seconds fastest = std::ranges::min(sweep, {}, &Baseline::time).time;
  std::erase_if(sweep, [&](const Baseline& b) { return b.time > target; });
  if (sweep.empty()) {
    return core::fail(
        core::ErrorCode::kInfeasible,
        fmt::format("no single clock ends by {} s; the fastest needs {} s", target.value(), fastest.value()));
  }
  return *std::ranges::min_element(sweep, {}, &Baseline::energy);
}

}  // namespace perseus::baseline
