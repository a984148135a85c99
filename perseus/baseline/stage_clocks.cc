// SPDX-License-Identifier: Apache-2.0
//
// best_stage_clocks(): one clock for each stage.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "perseus/baseline/baseline.h"
#include "perseus/baseline/clock_levels.h"
#include "perseus/baseline/evaluator.h"

namespace perseus::baseline {
namespace {

using core::ExactTime;
using core::Joules;
using core::Problem;
using core::Seconds;

/// Index of the chosen level of each stage.
using Assignment = std::vector<std::uint32_t>;

/// The search space and its objective.
class StageSearch {
 public:
  StageSearch(const Problem& problem, Seconds target, const Counting& counting)
      : problem_(problem),
        evaluator_(problem),
        target_(target),
        sync_(counting.sync_time),
        option_of_set_(problem.option_set_count(), 0) {
    const SetTable table(problem);
    sets_.resize(problem.pipeline().schedule().stages());
    for (std::uint32_t set = 0; set < table.stage.size(); ++set) sets_[table.stage[set]].push_back(set);
    for (const auto& sets : sets_) {
      auto levels = clock_levels(problem, table, sets);
      std::ranges::stable_sort(levels, {}, &Level::time);
      levels_.push_back(std::move(levels));
    }
  }

  [[nodiscard]] std::uint32_t stages() const { return static_cast<std::uint32_t>(levels_.size()); }
  [[nodiscard]] const std::vector<Level>& levels(std::uint32_t stage) const { return levels_[stage]; }

  /// The next slower level that costs less, or nothing. Levels that cost no less are passed over: clocks
  /// above what the power limit holds repeat each other, and noise leaves dips.
  [[nodiscard]] std::optional<std::uint32_t> down(std::uint32_t stage, std::uint32_t level) const {
    const auto& levels = levels_[stage];
    for (std::uint32_t k = level + 1; k < levels.size(); ++k) {
      if (levels[k].cost < levels[level].cost) return k;
    }
    return std::nullopt;
  }
  /// The next faster level, or nothing.
  [[nodiscard]] std::optional<std::uint32_t> up(std::uint32_t stage, std::uint32_t level) const {
    const auto& levels = levels_[stage];
    for (std::uint32_t k = level; k-- > 0;) {
      if (levels[k].time < levels[level].time) return k;
    }
    return std::nullopt;
  }

  /// Energy per GPU, up to a constant, if the assignment ends by the target.
  std::optional<Joules> energy(const Assignment& assignment) {
    Joules cost;
    for (std::uint32_t s = 0; s < stages(); ++s) cost += levels_[s][assignment[s]].cost;
    const ExactTime time = makespan(assignment);
    if (time > target_) return std::nullopt;
    const Seconds own = time.nearest_seconds();
    return cost + problem_.total_blocking_power() * std::max(own, sync_.value_or(own));
  }

  ExactTime makespan(const Assignment& assignment) {
    for (std::uint32_t s = 0; s < stages(); ++s) {
      const Level& level = levels_[s][assignment[s]];
      for (std::size_t k = 0; k < sets_[s].size(); ++k) option_of_set_[sets_[s][k]] = level.options[k];
    }
    return evaluator_.makespan_of_sets(option_of_set_);
  }

  [[nodiscard]] core::Choice choice(const Assignment& assignment) {
    makespan(assignment);  // lays the assignment out in option_of_set_
    core::Choice result(problem_.size());
    for (core::ComputationId i = 0; i < problem_.size(); ++i) {
      result[i] = option_of_set_[problem_.option_set_of(i)];
    }
    return result;
  }

  /// Number of assignments, or the largest number there is.
  [[nodiscard]] std::size_t count() const {
    std::size_t product = 1;
    for (const auto& levels : levels_) {
      if (product > std::numeric_limits<std::size_t>::max() / std::max<std::size_t>(levels.size(), 1)) {
        return std::numeric_limits<std::size_t>::max();
      }
      product *= levels.size();
    }
    return product;
  }

 private:
  const Problem& problem_;
  Evaluator evaluator_;
  ExactTime target_;
  std::optional<Seconds> sync_;
  std::vector<std::vector<std::uint32_t>> sets_;  // of each stage
  std::vector<std::vector<Level>> levels_;        // of each stage, by rising time
  std::vector<std::uint32_t> option_of_set_;
};

struct Found {
  Assignment assignment;
  Joules energy;
};

void keep_better(std::optional<Found>& best, const Assignment& assignment, std::optional<Joules> energy) {
  if (energy && (!best || *energy < best->energy)) best = Found{assignment, *energy};
}

std::optional<Found> search_all(StageSearch& search) {
  std::optional<Found> best;
  Assignment a(search.stages(), 0);
  while (true) {
    keep_better(best, a, search.energy(a));
    std::uint32_t s = 0;
    while (s < a.size() && ++a[s] == search.levels(s).size()) a[s++] = 0;
    if (s == a.size()) return best;
  }
}

/// The single clock as an assignment, where every stage has it.
std::optional<Assignment> same_clock(const StageSearch& search, core::Megahertz clock, bool fastest) {
  Assignment a;
  for (std::uint32_t s = 0; s < search.stages(); ++s) {
    const auto& levels = search.levels(s);
    std::optional<std::uint32_t> found;
    for (std::uint32_t k = 0; k < levels.size(); ++k) {
      const bool fixed = levels[k].clock == core::Megahertz();
      if (!fixed && levels[k].clock != clock) continue;
      if (!found || !fastest) found = k;  // by rising time: the first is the fastest, the last the cheapest
    }
    if (!found) return std::nullopt;
    a.push_back(*found);
  }
  return a;
}

/// Each stage at its cheapest level whose busy time is at most `most`, or at its fastest: stages in balance,
/// as the steady state of a pipeline wants them.
Assignment balanced(const StageSearch& search, Seconds most) {
  Assignment a(search.stages(), 0);
  for (std::uint32_t s = 0; s < search.stages(); ++s) {
    const auto& levels = search.levels(s);
    for (std::uint32_t k = 0; k < levels.size() && levels[k].time <= most; ++k) {
      if (levels[k].cost < levels[a[s]].cost) a[s] = k;
    }
  }
  return a;
}

/// Where descents start: the best balance, the best single clock, and every stage at its fastest; less those
/// that end too late.
std::vector<Found> starts(StageSearch& search) {
  std::optional<Found> balance;
  std::optional<Found> single;
  std::optional<Found> fastest;
  const Assignment top(search.stages(), 0);
  keep_better(fastest, top, search.energy(top));
  std::optional<std::uint32_t> free_stage;
  for (std::uint32_t s = 0; s < search.stages(); ++s) {
    if (search.levels(s).front().clock != core::Megahertz()) free_stage = s;
    for (const Level& level : search.levels(s)) {
      const Assignment a = balanced(search, level.time);
      keep_better(balance, a, search.energy(a));
    }
  }
  // Any stage with a choice of clocks names all candidates for a clock of the whole job.
  for (const Level& level : free_stage ? search.levels(*free_stage) : std::vector<Level>{}) {
    for (const bool quick : {false, true}) {
      if (const auto a = same_clock(search, level.clock, quick)) keep_better(single, *a, search.energy(*a));
    }
  }
  std::vector<Found> found;
  for (auto& start : {balance, single, fastest}) {
    if (start) found.push_back(*start);
  }
  return found;
}

/// One round of single steps: the step down with the largest saving for each second of busy time.
/// `blocked[s]` spares stages whose next step came too late before: as others slow down it will hardly come
/// in time again.
bool step_down(StageSearch& search, Found& now, std::vector<bool>& blocked) {
  std::optional<Found> best;
  double best_rate = 0;
  for (std::uint32_t s = 0; s < search.stages(); ++s) {
    const std::uint32_t level = now.assignment[s];
    const auto lower = search.down(s, level);
    if (blocked[s] || !lower) continue;
    Assignment next = now.assignment;
    next[s] = *lower;
    const auto energy = search.energy(next);
    if (!energy) blocked[s] = true;
    if (!energy || *energy >= now.energy) continue;
    const Seconds longer = search.levels(s)[*lower].time - search.levels(s)[level].time;
    const double rate = (now.energy - *energy).value() / std::max(longer.value(), core::kMinTime.value());
    if (best && rate <= best_rate) continue;
    best = Found{next, *energy};
    best_rate = rate;
  }
  if (!best) return false;
  now = *best;
  return true;
}

/// The best exchange of one step up against one step down, or a lone step up.
bool exchange(StageSearch& search, Found& now) {
  std::optional<Found> best;
  for (std::uint32_t s = 0; s < search.stages(); ++s) {
    const auto faster = search.up(s, now.assignment[s]);
    if (!faster) continue;
    Assignment raised = now.assignment;
    raised[s] = *faster;
    keep_better(best, raised, search.energy(raised));
    for (std::uint32_t other = 0; other < search.stages(); ++other) {
      const auto slower = search.down(other, raised[other]);
      if (other == s || !slower) continue;
      Assignment next = raised;
      next[other] = *slower;
      keep_better(best, next, search.energy(next));
    }
  }
  if (!best || best->energy >= now.energy) return false;
  now = *best;
  return true;
}

/// Exchanges are bounded so that the search takes a few thousand evaluations at most: 2 rounds for each
/// stage.
constexpr std::uint32_t kExchangesPerStage = 2;

void descend(StageSearch& search, Found& now) {
  for (std::uint32_t round = 0; round <= kExchangesPerStage * search.stages(); ++round) {
    std::vector<bool> blocked(search.stages(), false);
    while (step_down(search, now, blocked)) {
    }
    if (!exchange(search, now)) break;
  }
}

std::optional<Found> search_down(StageSearch& search) {
  std::optional<Found> best;
  for (Found& start : starts(search)) {
    descend(search, start);
    keep_better(best, start.assignment, start.energy);
  }
  return best;
}

}  // namespace

core::Result<Baseline> best_stage_clocks(const Problem& problem, Seconds target, const Counting& counting) {
  StageSearch search(problem, target, counting);
  for (std::uint32_t s = 0; s < search.stages(); ++s) {
    if (!search.levels(s).empty()) continue;
    return core::fail(core::ErrorCode::kInfeasible,
                      fmt::format("no clock is common to all computations of stage {}", s));
  }
  const bool small = search.count() <= kExhaustiveAssignments;
  const std::optional<Found> found = small ? search_all(search) : search_down(search);
  if (!found) {
    const Seconds fastest = search.makespan(Assignment(search.stages(), 0)).ceil_seconds();
    return core::fail(core::ErrorCode::kInfeasible,
                      fmt::format("no clock per stage ends by {} s; the fastest needs {} s", target.value(),
                                  fastest.value()));
  }
  return evaluate(problem, "best clock per stage", search.choice(found->assignment), counting);
}

}  // namespace perseus::baseline
