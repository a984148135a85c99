// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/clock_levels.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

namespace perseus::baseline {
namespace {

using core::Megahertz;
using core::Option;

/// Clocks of a set, from the fastest down, no two alike.
std::vector<Megahertz> clocks_of(std::span<const Option> options) {
  std::vector<Megahertz> clocks;
  for (const Option& o : options) {
    if (o.clock) clocks.push_back(*o.clock);
  }
  std::ranges::sort(clocks, std::greater<>());
  const auto doubles = std::ranges::unique(clocks);
  clocks.erase(doubles.begin(), doubles.end());
  return clocks;
}

/// Clocks that all sets with a choice share, from the fastest down; one 0 where no set has a choice.
std::vector<Megahertz> common_clocks(const core::Problem& problem, std::span<const std::uint32_t> sets) {
  std::vector<Megahertz> common;
  bool first = true;
  for (const std::uint32_t set : sets) {
    if (problem.option_set(set).size() == 1) continue;
    const auto own = clocks_of(problem.option_set(set));
    std::vector<Megahertz> both;
    std::ranges::set_intersection(common, own, std::back_inserter(both), std::greater<>());
    common = std::exchange(first, false) ? own : both;
  }
  if (first) common.emplace_back(0);
  return common;
}

/// The option of this clock that is least by `key`; the only option of a fixed set.
template <class Key>
std::uint32_t least(std::span<const Option> options, Megahertz clock, Key key) {
  if (options.size() == 1) return 0;
  std::uint32_t best = 0;
  bool found = false;
  for (std::uint32_t k = 0; k < options.size(); ++k) {
    if (options[k].clock != clock || (found && !(key(k) < key(best)))) continue;
    best = k;
    found = true;
  }
  return best;
}

Level level(const core::Problem& problem, const SetTable& table, std::span<const std::uint32_t> sets,
            Megahertz clock, bool fastest) {
  Level result{.clock = clock, .options = {}, .time = {}, .cost = {}};
  for (const std::uint32_t set : sets) {
    const auto options = problem.option_set(set);
    const auto& cost = table.cost[set];
    const std::uint32_t k =
        fastest ? least(options, clock, [&](std::uint32_t o) { return std::pair(options[o].time, cost[o]); })
                : least(options, clock, [&](std::uint32_t o) { return std::pair(cost[o], options[o].time); });
    result.options.push_back(k);
    result.time += table.count[set] * options[k].time;
    result.cost += table.count[set] * cost[k];
  }
  return result;
}

}  // namespace

SetTable::SetTable(const core::Problem& problem)
    : count(problem.option_set_count()), stage(problem.option_set_count()), cost(problem.option_set_count()) {
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const std::uint32_t set = problem.option_set_of(i);
    ++count[set];
    if (count[set] > 1) continue;
    stage[set] = problem.pipeline().computation(i).stage;
    for (const Option& o : problem.option_set(set)) cost[set].push_back(problem.effective_cost(i, o));
  }
}

std::vector<Level> clock_levels(const core::Problem& problem, const SetTable& table,
                                std::span<const std::uint32_t> sets) {
  std::vector<Level> levels;
  for (const Megahertz clock : common_clocks(problem, sets)) {
    Level cheapest = level(problem, table, sets, clock, false);
    Level fastest = level(problem, table, sets, clock, true);
    const bool differ = cheapest.options != fastest.options;
    levels.push_back(std::move(cheapest));
    if (differ) levels.push_back(std::move(fastest));
  }
  return levels;
}

}  // namespace perseus::baseline
