// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/timing.h"

#include <algorithm>
#include <ranges>

#include "perseus/core/exact_time.h"

namespace perseus::report {

using core::ComputationId;
using core::EdgeId;
using core::ExactTime;

PlanTiming plan_timing(const core::Problem& problem, const core::Choice& choice) {
  const core::Pipeline& pipeline = problem.pipeline();
  const core::ExactTiming exact = core::exact_timing(problem, choice);
  const auto time = [&](ComputationId i) { return ExactTime(problem.options(i)[choice[i]].time); };

  std::vector<ExactTime> latest_end(problem.size(), exact.makespan);
  for (const ComputationId i : std::views::reverse(pipeline.topological_order())) {
    for (EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      const ComputationId to = pipeline.edges()[e].to;
      latest_end[i] = std::min(latest_end[i], latest_end[to] - time(to) - ExactTime(problem.lag(e)));
    }
  }

  PlanTiming timing;
  timing.start.reserve(problem.size());
  timing.slack.reserve(problem.size());
  timing.critical.reserve(problem.size());
  for (ComputationId i = 0; i < problem.size(); ++i) {
    const ExactTime slack = latest_end[i] - (exact.start[i] + time(i));
    timing.start.push_back(exact.start[i].nearest_seconds());
    timing.slack.push_back(slack.nearest_seconds());
    timing.critical.push_back(slack == ExactTime());
  }
  timing.makespan = exact.makespan.ceil_seconds();
  return timing;
}

std::vector<RankEnergy> rank_energies(const core::Problem& problem, const core::Choice& choice,
                                      core::Seconds sync) {
  const core::Pipeline& pipeline = problem.pipeline();
  std::vector<RankEnergy> energies;
  for (std::uint32_t r = 0; r < pipeline.schedule().pipeline(); ++r) {
    core::Seconds busy;
    core::Joules computing;
    for (ComputationId i = pipeline.first_of_rank(r); i < pipeline.first_of_rank(r + 1); ++i) {
      const core::Option& option = problem.options(i)[choice[i]];
      busy += option.time;
      computing += option.energy;
    }
    const double width = problem.parallel().tensor;
    energies.push_back({width * computing, width * (problem.blocking_power(r) * (sync - busy))});
  }
  return energies;
}

}  // namespace perseus::report
