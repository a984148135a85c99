// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/realise.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "perseus/solver/realise_beam.h"
#include "perseus/solver/realise_bound.h"
#include "perseus/solver/realise_flat.h"
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

/// Computations by their latest start in the relaxed optimum: a topological order in which what runs at one
/// time stands together.
std::vector<core::ComputationId> order_by_time(const core::Problem& problem, const Relaxed& relaxed) {
  const core::Pipeline& pipeline = problem.pipeline();
  const auto topological = pipeline.topological_order();
  // Time from the start of each computation to the end of the iteration, s. Doubles do: rounding is monotone,
  // so an edge never leads to a larger value, and ties keep the topological order.
  std::vector<double> left(problem.size(), 0);
  for (auto it = topological.rbegin(); it != topological.rend(); ++it) {
    double behind = 0;
    for (core::EdgeId e = pipeline.first_out(*it); e < pipeline.first_out(*it + 1); ++e) {
      behind = std::max(behind, left[pipeline.edges()[e].to] + problem.lag(e).value());
    }
    const auto duration = static_cast<double>(std::max<std::int64_t>(relaxed.duration[*it], 0));
    left[*it] = behind + std::ldexp(duration, relaxed.tick_exponent);
  }
  std::vector<std::uint32_t> rank(problem.size());
  for (std::uint32_t k = 0; k < problem.size(); ++k) rank[topological[k]] = k;
  std::vector<core::ComputationId> order(topological.begin(), topological.end());
  std::ranges::sort(order, [&](core::ComputationId a, core::ComputationId b) {
    return left[a] != left[b] ? left[a] > left[b] : rank[a] < rank[b];
  });
  return order;
}

/// Durations by position in our ticks. One within two of the solver's ticks of an option is that option:
/// rounding of times to ticks must not cost a clock step.
std::vector<Ticks> durations(const FlatProblem& flat, const Relaxed& relaxed) {
  const double scale = std::ldexp(1.0, relaxed.tick_exponent - flat.tick_exponent);
  const double rounding = 2 * scale + 2;
  std::vector<Ticks> result(flat.size);
  for (Position p = 0; p < flat.size; ++p) {
    const double ticks = scale * static_cast<double>(relaxed.duration[flat.id[p]]);
    const auto most = static_cast<double>(flat.target);
    const Ticks option = flat.time[internal::slowest_rung(
        flat, p, static_cast<Ticks>(std::clamp(ticks + rounding, 0.0, most)))];
    const auto duration = static_cast<Ticks>(std::clamp(ticks, 0.0, most));
    result[p] = static_cast<double>(std::abs(duration - option)) <= rounding ? option : duration;
  }
  return result;
}

Rungs first_answer(const FlatProblem& flat, internal::Beam& beam) {
  internal::LongestPaths paths(flat, beam.run({}));
  internal::spend_slack(flat, paths);
  Rungs rungs = paths.rungs();
  internal::repair(flat, rungs);
  return rungs;
}

/// energy / bound - 1. A bound of 0 leaves no gap to energy 0 and an unlimited one to any other.
double gap_between(core::Joules energy, core::Joules bound) {
  if (bound > core::Joules(0)) return energy / bound - 1;
  return energy > core::Joules(0) ? std::numeric_limits<double>::infinity() : 0;
}

/// Fills in what the choice promises.
core::Plan make_plan(const core::Problem& problem, const FlatProblem& flat, const Rungs& rungs,
                     const Relaxed& relaxed, const RealiseOptions& options) {
  core::Plan plan;
  plan.choice.resize(problem.size());
  for (Position p = 0; p < flat.size; ++p) plan.choice[flat.id[p]] = flat.option[rungs[p]];
  plan.target_time = relaxed.target;
  plan.sync_time = options.sync_time;
  plan.time = internal::exact_makespan(flat, rungs).ceil_seconds();
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
  internal::Beam beam(flat, durations(flat, relaxed));
  Rungs rungs = first_answer(flat, beam);
  if (options.polish > core::Seconds(0)) {
    internal::polish(flat, beam, rungs,
                     {static_cast<std::uint64_t>(kUnitsPerSecond * options.polish.value())});
  }
  return make_plan(problem, flat, rungs, relaxed, options);
}

}  // namespace perseus::solver
