// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "perseus/solver/realise_beam.h"
#include "perseus/solver/realise_bound.h"
#include "perseus/solver/realise_flat.h"
#include "perseus/solver/realise_guide.h"
#include "perseus/solver/realise_search.h"
#include "perseus/solver/realise_slack.h"

namespace perseus::solver {
namespace {

using core::ErrorCode;
using core::fail;
using internal::FlatProblem;
using internal::Position;
using internal::Rungs;
using internal::Ticks;

constexpr double kUnitsPerSecond = 1e9;
/// More than a year of polishing is a mistake, and more than 2^63 units would not be counted.
constexpr core::Seconds kMostPolish{1e6};

core::Status check(const core::Problem& problem, const Relaxed& relaxed, const RealiseOptions& options) {
  const auto& flow = relaxed.certificate;
  if (relaxed.duration.size() != problem.size() || flow.computation.size() != problem.size()) {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("the relaxed optimum has {} durations and {} flows; the problem has {} computations",
                    relaxed.duration.size(), flow.computation.size(), problem.size()));
  }
  for (const auto& e : flow.edges) {
    if (e.edge < problem.pipeline().edges().size()) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the relaxed optimum has a flow on edge {}; the problem has {} edges", e.edge,
                            problem.pipeline().edges().size()));
  }
  const double target = relaxed.target.value();
  if (!std::isfinite(target) || target < 0) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("target time is {} s; it must be finite and at least 0", target));
  }
  const double polish = options.polish.value();
  if (!(polish >= 0 && options.polish <= kMostPolish)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("polish is {} s; it must be 0 to {} s", polish, kMostPolish.value()));
  }
  if (options.sync_time && !(*options.sync_time >= relaxed.target)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the iteration synchronises at {} s, before the target time of {} s",
                            options.sync_time->value(), target));
  }
  return {};
}

/// A computation in the order of time.
struct Timed {
  double left = 0;         ///< from its start to the end of the iteration, s
  std::uint32_t rank = 0;  ///< in the topological order
  core::ComputationId id = 0;
  friend bool operator<(const Timed& a, const Timed& b) {
    return a.left != b.left ? a.left > b.left : a.rank < b.rank;
  }
};

/// Sorts neighbouring runs, each sorted already, into one: run k is [first[k], first[k + 1]).
void merge_runs(std::vector<Timed>& all, std::vector<std::uint32_t> first) {
  std::vector<Timed> merged(all.size());
  while (first.size() > 2) {
    std::vector<std::uint32_t> fewer;
    for (std::size_t k = 0; k + 1 < first.size(); k += 2) {
      const std::uint32_t middle = first[k + 1];
      const std::uint32_t end = k + 2 < first.size() ? first[k + 2] : middle;
      std::merge(all.begin() + first[k], all.begin() + middle, all.begin() + middle, all.begin() + end,
                 merged.begin() + first[k]);
      fewer.push_back(first[k]);
    }
    fewer.push_back(first.back());
    std::swap(all, merged);
    std::swap(first, fewer);
  }
}

/// Computations by their latest start in the relaxed optimum: a topological order in which what runs at one
/// time stands together.
std::vector<core::ComputationId> order_by_time(const core::Problem& problem, const Relaxed& relaxed) {
  const core::Pipeline& pipeline = problem.pipeline();
  const auto edges = pipeline.edges();
  const auto topological = pipeline.topological_order();
  const double tick = std::ldexp(1.0, relaxed.tick_exponent);
  std::vector<Timed> all(problem.size());
  // Doubles do: rounding is monotone, so an edge never leads to a larger value, and ties keep the topological
  // order.
  for (std::uint32_t rank = problem.size(); rank-- > 0;) {
    const core::ComputationId i = topological[rank];
    double behind = 0;
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      behind = std::max(behind, all[edges[e].to].left + problem.lag(e).value());
    }
    const auto duration = static_cast<double>(std::max<std::int64_t>(relaxed.duration[i], 0));
    all[i] = {behind + tick * duration, rank, i};
  }
  // The order of each rank is one of time.
  std::vector<std::uint32_t> first;
  first.reserve(pipeline.schedule().ranks.size() + 1);
  for (std::uint32_t r = 0; r < pipeline.schedule().ranks.size(); ++r)
    first.push_back(pipeline.first_of_rank(r));
  first.push_back(problem.size());
  merge_runs(all, std::move(first));
  std::vector<core::ComputationId> order;
  order.reserve(all.size());
  for (const Timed& t : all) order.push_back(t.id);
  return order;
}

/// Prices of drift that the first answer tries, as shares of a computation's flow: none is best for every
/// profile (bench/realise_gap).
constexpr std::array kDrifts{0.1, 0.4};

/// What a choice costs, its end counted in ticks: J per GPU.
double objective_in_ticks(const FlatProblem& flat, const internal::LongestPaths& paths) {
  double cost = 0;
  for (const std::uint32_t r : paths.rungs()) cost += flat.cost[r];
  if (flat.wait_power == 0) return cost;
  Ticks end = 0;
  for (Position p = 0; p < flat.size; ++p) end = std::max(end, paths.end(p));
  return cost + flat.wait_power * std::ldexp(static_cast<double>(end), flat.tick_exponent);
}

/// The best of several roundings with their slack spent. It ends by the target in ticks.
Rungs first_answer(const FlatProblem& flat, const internal::Guide& guide) {
  Rungs best;
  double least = std::numeric_limits<double>::infinity();
  for (const double drift : kDrifts) {
    internal::LongestPaths paths(flat, internal::round_in_time(flat, guide, drift));
    internal::spend_slack(flat, paths);
    const double cost = objective_in_ticks(flat, paths);
    if (cost >= least) continue;
    least = cost;
    best = paths.rungs();
  }
  return best;
}

/// energy / bound - 1. A bound of 0 leaves no gap to energy 0 and an unlimited one to any other.
double gap_between(core::Joules energy, core::Joules bound) {
  if (bound > core::Joules(0)) return energy / bound - 1;
  return energy > core::Joules(0) ? std::numeric_limits<double>::infinity() : 0;
}

/// Fills in what the choice promises.
core::Plan make_plan(const core::Problem& problem, const FlatProblem& flat, const Rungs& rungs,
                     core::ExactTime makespan, const Relaxed& relaxed, const RealiseOptions& options) {
  core::Plan plan;
  plan.choice.resize(problem.size());
  for (Position p = 0; p < flat.size; ++p) plan.choice[flat.id[p]] = flat.option[rungs[p]];
  plan.target_time = relaxed.target;
  plan.sync_time = options.sync_time;
  plan.time = makespan.ceil_seconds();
  plan.energy = core::pipeline_energy(problem, plan.choice, plan.sync_time.value_or(plan.time));
  plan.lower_bound = internal::proven_energy(problem, relaxed.certificate, relaxed.target, options.sync_time);
  plan.gap = gap_between(plan.energy, plan.lower_bound);
  plan.certificate = relaxed.certificate;
  return plan;
}

}  // namespace

core::Result<core::Plan> realise(const core::Problem& problem, const Relaxed& relaxed,
                                 const RealiseOptions& options) {
  PERSEUS_RETURN_IF_ERROR(check(problem, relaxed, options));
  const auto order = order_by_time(problem, relaxed);
  PERSEUS_ASSIGN_OR_RETURN(
      const FlatProblem flat,
      internal::flatten(problem, order, relaxed.target, relaxed.certificate, !options.sync_time.has_value()));
  const internal::Guide guide = internal::make_guide(flat, relaxed);
  Rungs rungs = first_answer(flat, guide);
  core::ExactTime makespan = internal::repair(flat, rungs);
  if (options.polish > core::Seconds(0)) {
    internal::Beam beam(flat, guide);
    internal::polish(flat, beam, rungs,
                     {static_cast<std::uint64_t>(kUnitsPerSecond * options.polish.value())});
    makespan = internal::exact_makespan(flat, rungs);
  }
  return make_plan(problem, flat, rungs, makespan, relaxed, options);
}

}  // namespace perseus::solver
