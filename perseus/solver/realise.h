// SPDX-License-Identifier: Apache-2.0
//
// From continuous durations to measured options: a clock plan that is never slower than its target.
#pragma once

#include <cstdint>
#include <optional>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/solver/frontier.h"

namespace perseus::solver {

/// How a plan's energy is counted and how much work goes into it.
struct RealiseOptions {
  /// T' of the synchronised question; absent: self-timed (the pipeline ends its own iteration).
  std::optional<core::Seconds> sync_time;
  /// Local search after the first answer. 0: none. Counted in work, not by a clock, so that equal input gives
  /// an equal plan on every machine: one second is the work that the reference machine of bench/ does in one
  /// second.
  core::Seconds polish{0};
};

/// The plan for `relaxed.target`, with its bound and certificate filled in. Its exact makespan never exceeds
/// the target. kInfeasible if even the fastest options do not fit.
core::Result<core::Plan> realise(const core::Problem& problem, const Relaxed& relaxed,
                                 const RealiseOptions& options = {});

}  // namespace perseus::solver
