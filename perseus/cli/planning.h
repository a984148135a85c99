// SPDX-License-Identifier: Apache-2.0
//
// The questions of the command line, turned into targets on a frontier (DESIGN section 3, "Two questions").
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perseus/cli/io.h"
#include "perseus/core/plan.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/solver/frontier.h"

namespace perseus::cli {

/// What `perseus plan` is asked. At most one is given; none: the fastest point.
struct Question {
  std::optional<core::Seconds> target_time;
  std::optional<double> slowdown_percent;
  bool min_energy = false;
  std::optional<double> straggler_factor;
  std::optional<core::Seconds> sync_time;

  /// True if somebody else ends the iteration.
  [[nodiscard]] bool synchronised() const { return straggler_factor || sync_time; }
};

/// A point on the frontier: the time to plan for, and T' when somebody else ends the iteration.
struct Target {
  core::Seconds time;
  std::optional<core::Seconds> sync_time;
};

/// kUsage: a factor below 1, a negative or non-finite number. kInfeasible: a target time under T_min, with
/// T_min in all digits. A T' below T_min becomes T_min: this pipeline is then the slowest itself.
core::Result<Target> resolve(const Question& question, core::Seconds t_min, core::Seconds t_star,
                             core::Seconds t_max);

/// A frontier and how long the solver took for it, user-visible as `solver.seconds`.
struct TimedFrontier {
  solver::Frontier frontier;
  core::Seconds seconds;
};
core::Result<TimedFrontier> solve_frontier(const core::Problem& problem, solver::Range range, const Io& io);

/// The realised plan at one target of a frontier.
core::Result<core::Plan> make_plan(const solver::Frontier& frontier, const Target& target,
                                   core::Seconds polish, const std::string& fit);

/// -dE/dT of the whole pipeline (tensor width included) where the certificate's flow is optimal.
core::Watts marginal_power(const core::Problem& problem, const core::Certificate& certificate);

/// `count` plans at evenly spaced targets from T_min to T* (Range::kTStar) or T_max, both included; those up
/// to T_max are synchronised at their own target. `count` of at least 2; equal targets are made once. `range`
/// must not exceed the frontier's own.
core::Result<std::vector<core::Plan>> sample_plans(const solver::Frontier& frontier, solver::Range range,
                                                   std::uint32_t count, const std::string& fit, const Io& io);

}  // namespace perseus::cli
