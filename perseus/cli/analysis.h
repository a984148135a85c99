// SPDX-License-Identifier: Apache-2.0
//
// What `perseus frontier` and `perseus report` compute alike: the frontier, sampled plans, baselines.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/baseline/baseline.h"
#include "perseus/cli/inputs.h"
#include "perseus/cli/io.h"
#include "perseus/cli/planning.h"
#include "perseus/core/plan.h"
#include "perseus/format/frontier_json.h"

namespace perseus::cli {

/// A solved job.
struct Analysis {
  TimedFrontier solved;
  std::vector<core::Plan> plans;  ///< by rising target
  baseline::Baseline all_max;
  std::vector<baseline::Baseline> baselines;  ///< those that apply to the job
};

/// How far to solve and what to realise.
struct AnalysisOptions {
  solver::Range solve = solver::Range::kTStar;
  solver::Range sample = solver::Range::kTStar;  ///< of the realised plans; not beyond `solve`
  std::uint32_t points = 40;                     ///< realised plans: 0, or at least 2
};

/// Solves the range and realises the plans. Baselines are held to T_min (EnvPipe) or may slow down to T*
/// (one clock for all, one per stage), so that each is compared at the best that it can do there.
core::Result<Analysis> analyse(const Inputs& inputs, const AnalysisOptions& options, const Io& io);

/// The struct that `frontier --json` and the table are written from. `all`: breakpoints instead of points.
[[nodiscard]] format::FrontierReport make_frontier_report(const Inputs& inputs, const Analysis& analysis,
                                                          bool all);

}  // namespace perseus::cli
