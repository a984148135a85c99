// SPDX-License-Identifier: Apache-2.0
//
// What a person reads: the head of a job, a frontier and a plan as text.
#pragma once

#include <optional>
#include <string>

#include "perseus/baseline/baseline.h"
#include "perseus/baseline/bloat.h"
#include "perseus/cli/inputs.h"
#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/format/frontier_json.h"

namespace perseus::cli {

/// The job (schedule, degrees, computations, blocking power), where the figures come from, and the fit with
/// its residuals where they are known.
[[nodiscard]] std::string describe_job(const core::Problem& problem, const std::string& profile_name,
                                       const std::string& fit, const std::optional<FitResiduals>& residuals);

/// The landmarks, all points or breakpoints, and the baselines, as aligned tables with units. `waiting` is
/// what the whole pipeline draws while it waits: in a synchronised frontier all-max waits for the same T' as
/// the plans.
[[nodiscard]] std::string describe_frontier(const format::FrontierReport& report, core::Watts waiting);

/// What one plan promises, beside all-max, with the bloat that it removes.
struct PlanSummary {
  core::Plan plan;
  core::Seconds t_min;
  core::Seconds t_star;
  core::Seconds t_max;
  baseline::Baseline all_max;  ///< counted to T' if the plan is synchronised
  baseline::BloatBreakdown bloat;
};
[[nodiscard]] std::string describe_plan(const PlanSummary& summary);
/// The same figures as one JSON object on one line; `path` is where the plan was written.
[[nodiscard]] std::string plan_summary_json(const PlanSummary& summary, const std::string& path);

}  // namespace perseus::cli
