// SPDX-License-Identifier: Apache-2.0
#include "tests/support/brute_force.h"

#include <algorithm>
#include <utility>

namespace perseus::tests {
namespace {

core::Joules effective_cost(const core::Problem& problem, const core::Choice& choice) {
  core::Joules sum;
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    sum += problem.effective_cost(i, problem.options(i)[choice[i]]);
  }
  return sum;
}

/// The next assignment, counting like an odometer; false after the last.
bool advance(const core::Problem& problem, core::Choice& choice) {
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (++choice[i] < problem.options(i).size()) return true;
    choice[i] = 0;
  }
  return false;
}

}  // namespace

std::optional<std::uint64_t> assignment_count(const core::Problem& problem, std::uint64_t limit) {
  std::uint64_t count = 1;
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const std::uint64_t options = problem.options(i).size();
    if (count > limit / options) return std::nullopt;
    count *= options;
  }
  return count;
}

std::vector<DiscretePoint> discrete_frontier(const core::Problem& problem) {
  std::vector<DiscretePoint> all;
  core::Choice choice(problem.size(), 0);
  do {
    all.push_back({core::exact_timing(problem, choice).makespan, effective_cost(problem, choice), choice});
  } while (advance(problem, choice));
  std::ranges::sort(all, [](const DiscretePoint& a, const DiscretePoint& b) {
    return std::pair(a.time, a.cost) < std::pair(b.time, b.cost);
  });
  std::vector<DiscretePoint> best;
  for (DiscretePoint& p : all) {
    if (best.empty() || p.cost < best.back().cost) best.push_back(std::move(p));
  }
  return best;
}

std::optional<core::Joules> least_energy(const core::Problem& problem,
                                         const std::vector<DiscretePoint>& frontier, core::Seconds target,
                                         std::optional<core::Seconds> sync) {
  std::optional<core::Joules> least;
  for (const DiscretePoint& p : frontier) {
    if (p.time > core::ExactTime(target)) break;
    const core::Seconds end = sync.value_or(p.time.ceil_seconds());
    const core::Joules energy = core::pipeline_energy(problem, p.choice, end);
    least = least ? std::min(*least, energy) : energy;
  }
  return least;
}

}  // namespace perseus::tests
