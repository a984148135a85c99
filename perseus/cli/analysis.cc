// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/analysis.h"

#include <algorithm>

#include "perseus/baseline/envpipe.h"

namespace perseus::cli {
namespace {

/// A job whose computations share no clock has no single-clock baseline; that is not an error of the job.
void add_if_any(std::vector<baseline::Baseline>& baselines, core::Result<baseline::Baseline> found) {
  if (found) baselines.push_back(*std::move(found));
}

std::vector<baseline::Baseline> baselines_of(const core::Problem& problem, core::Seconds t_star) {
  std::vector<baseline::Baseline> baselines;
  add_if_any(baselines, baseline::best_single_clock(problem, t_star));
  add_if_any(baselines, baseline::best_stage_clocks(problem, t_star));
  baselines.push_back(baseline::envpipe(problem));
  return baselines;
}

std::vector<format::FrontierBreakpoint> breakpoints_of(const solver::Frontier& frontier) {
  const core::Problem& problem = frontier.problem();
  const double tensor = problem.parallel().tensor;
  std::vector<format::FrontierBreakpoint> corners;
  for (const solver::Breakpoint& b : frontier.breakpoints()) {
    corners.push_back({.target_time = b.time,
                       .lower_bound = tensor * (b.cost - b.error + problem.total_blocking_power() * b.time),
                       .marginal = tensor * (b.slope - problem.total_blocking_power())});
  }
  std::ranges::reverse(corners);
  return corners;
}

}  // namespace

core::Result<Analysis> analyse(const Inputs& inputs, const AnalysisOptions& options, const Io& io) {
  PERSEUS_ASSIGN_OR_RETURN(auto solved, solve_frontier(inputs.problem, options.solve, io));
  PERSEUS_ASSIGN_OR_RETURN(auto plans,
                           sample_plans(solved.frontier, options.sample, options.points, inputs.fit, io));
  io.progress(1, "baselines");
  auto all_max = baseline::all_max(inputs.problem);
  auto baselines = baselines_of(inputs.problem, std::max(solved.frontier.t_min(), solved.frontier.t_star()));
  io.progress_done();
  return Analysis{std::move(solved), std::move(plans), std::move(all_max), std::move(baselines)};
}

format::FrontierReport make_frontier_report(const Inputs& inputs, const Analysis& analysis, bool all) {
  const solver::Frontier& frontier = analysis.solved.frontier;
  format::FrontierReport report;
  report.t_min = frontier.t_min();
  report.t_star = frontier.t_star();
  report.t_max = frontier.t_max();
  report.all_max = {"all-max", analysis.all_max.time, analysis.all_max.energy};
  for (const core::Plan& p : analysis.plans) {
    report.points.push_back({.target_time = p.target_time,
                             .time = p.time,
                             .energy = p.energy,
                             .lower_bound = p.lower_bound,
                             .gap = p.gap,
                             .marginal = marginal_power(inputs.problem, *p.certificate)});
  }
  if (all) report.breakpoints = breakpoints_of(frontier);
  for (const auto& b : analysis.baselines) report.baselines.push_back({b.name, b.time, b.energy});
  report.breakpoint_count = frontier.breakpoint_count();
  report.solver_time = analysis.solved.seconds;
  report.range = frontier.range() == solver::Range::kTMax ? "tmax" : "tstar";
  report.fit = inputs.fit;
  report.data = inputs.problem.parallel().data;
  return report;
}

}  // namespace perseus::cli
