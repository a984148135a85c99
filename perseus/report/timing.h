// SPDX-License-Identifier: Apache-2.0
//
// When each computation of a plan runs, how much later it could end, and which ones decide the iteration
// time.
#pragma once

#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/units.h"

namespace perseus::report {

/// The as-early-as-possible timeline of a choice. Vectors have one entry per computation.
struct PlanTiming {
  std::vector<core::Seconds> start;  ///< nearest double to the exact start
  std::vector<core::Seconds>
      slack;                   ///< how much later it may end without a longer iteration, all else as planned
  std::vector<bool> critical;  ///< slack is exactly 0: it lies on a critical path
  core::Seconds makespan;      ///< rounded up to a double
};

/// Computed in exact arithmetic. O(computations + edges). `choice` must be valid for `problem`.
[[nodiscard]] PlanTiming plan_timing(const core::Problem& problem, const core::Choice& choice);

/// Energy of one rank's GPUs in an iteration that synchronises at `sync`.
struct RankEnergy {
  core::Joules computing;
  core::Joules blocking;
};
/// One entry per rank; tensor width included. Their sum is core::pipeline_energy up to rounding.
[[nodiscard]] std::vector<RankEnergy> rank_energies(const core::Problem& problem, const core::Choice& choice,
                                                    core::Seconds sync);

}  // namespace perseus::report
