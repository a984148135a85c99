// SPDX-License-Identifier: Apache-2.0
//
// Inputs for tests of the report: a 1F1B pipeline with a made-up profile and plain plans, without a solver.
// The bounds are made up too (a fixed share under each plan): good for drawing, worth nothing as a result.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/exact_time.h"
#include "perseus/report/inputs.h"
#include "perseus/report/report.h"

namespace perseus::report::testing {

/// The value of a result that a test relies on; throws with the error's text.
template <class T>
T must(core::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().text());
  return *std::move(result);
}

struct SampleSize {
  std::uint32_t ranks = 4;
  std::uint32_t microbatches = 8;
  std::uint32_t points = 12;
  std::uint32_t clocks = 28;  ///< options per computation
  double blocking_w = 85;
};

/// Time rises and energy falls as the clock goes down; stages differ by up to a fifth.
inline std::vector<core::Option> sample_options(std::uint32_t stage, double base_s, std::uint32_t clocks) {
  constexpr double kTopClock = 1410;
  std::vector<core::Option> options;
  for (std::uint32_t k = 0; k < clocks; ++k) {
    const double clock = kTopClock - 15.0 * k * 54 / std::max(clocks - 1, 1U);
    const double uneven = 1 + 0.05 * ((stage * 3) % 5);
    const double time = base_s * uneven * (0.3 + 0.7 * kTopClock / clock);
    const double watts = 95 + 300 * std::pow(clock / kTopClock, 2.6);
    core::Option option;
    option.clock = core::Megahertz(static_cast<std::uint32_t>(clock));
    option.time = core::Seconds(time);
    option.energy = core::Watts(watts) * option.time;
    options.push_back(std::move(option));
  }
  return options;
}

inline core::Schedule sample_schedule(const SampleSize& size) {
  core::Schedule schedule{.name = "1f1b", .microbatches = size.microbatches, .ranks = {}, .instructions = {}};
  for (std::uint32_t r = 0; r < size.ranks; ++r) {
    const std::uint32_t warm = std::min(size.ranks - 1 - r, size.microbatches);
    std::vector<core::Computation> order;
    for (std::uint32_t m = 0; m < warm; ++m)
      order.push_back({.kind = core::Kind::kForward, .stage = r, .microbatch = m});
    for (std::uint32_t m = 0; m < size.microbatches; ++m) {
      if (m + warm < size.microbatches) {
        order.push_back({.kind = core::Kind::kForward, .stage = r, .microbatch = m + warm});
      }
      order.push_back({.kind = core::Kind::kBackward, .stage = r, .microbatch = m});
    }
    schedule.ranks.push_back(std::move(order));
  }
  return schedule;
}

inline core::Problem sample_problem(const SampleSize& size) {
  core::ProblemInputs inputs;
  for (std::uint32_t s = 0; s < size.ranks; ++s) {
    inputs.profile.entries.push_back({.stage = s,
                                      .instruction = "backward",
                                      .stage_b = {},
                                      .options = sample_options(s, 0.064, size.clocks)});
    inputs.profile.entries.push_back({.stage = s,
                                      .instruction = "forward",
                                      .stage_b = {},
                                      .options = sample_options(s, 0.031, size.clocks)});
  }
  inputs.blocking_power.assign(size.ranks, core::Watts(size.blocking_w));
  inputs.parallel = {.tensor = 8, .data = 4};
  inputs.p2p_lag = core::Seconds(0.0005);
  return must(core::Problem::build(must(core::Pipeline::build(sample_schedule(size))), std::move(inputs)));
}

/// Each computation as slow as it may be without taking longer than `stretch` times the slowest stage's
/// fastest.
inline core::Choice sample_choice(const core::Problem& problem, double stretch) {
  double slowest_forward = 0, slowest_backward = 0;
  const core::Choice fastest = core::fastest_choice(problem);
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const bool is_forward = problem.pipeline().computation(i).kind == core::Kind::kForward;
    double& slowest = is_forward ? slowest_forward : slowest_backward;
    slowest = std::max(slowest, problem.options(i)[fastest[i]].time.value());
  }
  core::Choice choice(problem.size());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const bool is_forward = problem.pipeline().computation(i).kind == core::Kind::kForward;
    const double limit = stretch * (is_forward ? slowest_forward : slowest_backward);
    const auto options = problem.options(i);
    std::uint32_t k = 0;
    while (k + 1 < options.size() && options[k + 1].time.value() <= limit) ++k;
    choice[i] = k;
  }
  return choice;
}

inline ReportPoint sample_point(const core::Problem& problem, core::Choice choice, bool is_synchronised) {
  ReportPoint point;
  core::Plan& plan = point.plan;
  plan.time = core::exact_timing(problem, choice).makespan.ceil_seconds();
  plan.choice = std::move(choice);
  plan.target_time = plan.time;
  if (is_synchronised) plan.sync_time = plan.time;
  plan.energy = core::pipeline_energy(problem, plan.choice, plan.time);
  plan.lower_bound = 0.9985 * plan.energy;
  plan.gap = plan.energy / plan.lower_bound - 1;
  return point;
}

inline void fill_marginals(std::vector<ReportPoint>& points) {
  for (std::size_t p = 0; p + 1 < points.size(); ++p) {
    const core::Seconds step = points[p + 1].plan.time - points[p].plan.time;
    if (step > core::Seconds(0)) {
      points[p].marginal = (points[p].plan.energy - points[p + 1].plan.energy) / step;
    }
  }
}

inline ReportInputs sample_inputs(const SampleSize& size = {}) {
  ReportInputs inputs{.problem = sample_problem(size)};
  inputs.title = "Made-up pipeline";
  inputs.profile_name = "sample.csv";
  inputs.provenance = "made up for a test";
  inputs.all_max = core::fastest_choice(inputs.problem);
  const double span = size.points > 1 ? 0.35 / (size.points - 1) : 0;
  for (std::uint32_t p = 0; p < size.points; ++p) {
    inputs.points.push_back(sample_point(inputs.problem, sample_choice(inputs.problem, 1 + span * p), false));
  }
  for (int p = 1; p <= 4 && size.points > 1; ++p) {
    inputs.straggler_points.push_back(
        sample_point(inputs.problem, sample_choice(inputs.problem, 1.35 + 0.1 * p), true));
  }
  fill_marginals(inputs.points);
  for (const ReportPoint& p : inputs.points) inputs.curve.push_back({p.plan.target_time, p.plan.lower_bound});
  inputs.t_min = inputs.points.front().plan.time;
  inputs.t_star = inputs.points.back().plan.time;
  inputs.t_max = inputs.straggler_points.empty() ? inputs.t_star : inputs.straggler_points.back().plan.time;
  const ReportBaseline all_max = all_max_baseline(inputs);
  inputs.baselines = {{"best single clock", all_max.time, 0.98 * all_max.energy},
                      {"best clock per stage", 1.002 * all_max.time, 0.95 * all_max.energy},
                      {"EnvPipe", 1.004 * all_max.time, 0.93 * all_max.energy}};
  inputs.solver_time = core::Seconds(0.0421);
  inputs.breakpoints = 12617;
  inputs.warnings.push_back({"a made-up warning", {.source = "sample.csv", .line = 7, .column = 2}});
  return inputs;
}

}  // namespace perseus::report::testing
