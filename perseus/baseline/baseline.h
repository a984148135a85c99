// SPDX-License-Identifier: Apache-2.0
//
// What users do today, costed exactly as a plan is: all-max, one clock for the whole job, one clock for each
// stage, and EnvPipe's heuristic (envpipe.h); and what bloat the frontier removes, set against all-max.
//
//   const Baseline max = all_max(problem);
//   PERSEUS_ASSIGN_OR_RETURN(const Baseline one, best_single_clock(problem, 1.05 * max.time));
//
// Options of equal clock that differ in knobs: a baseline that sets clocks takes, for each computation, the
// one of least effective cost; where that would miss the target and the fastest of that clock would not, the
// fastest. Computations with exactly one option (data loading, a collective) keep it whatever the clock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::baseline {

/// Up to when blocking is counted (DESIGN section 3, "Two questions").
struct Counting {
  /// T': somebody else ends the iteration then. Absent: this pipeline ends it itself. A T' that the pipeline
  /// itself exceeds counts as the pipeline's own time.
  std::optional<core::Seconds> sync_time;
};

/// One way to run the job without a frontier. Energy is of one pipeline with all its GPUs, blocking included.
struct Baseline {
  std::string name;
  core::Choice choice;
  core::Seconds time;   ///< makespan, rounded up to a double
  core::Joules energy;  ///< blocking counted to `time`, or to T' if that is later
};

/// Costs any choice; `choice` must be valid for `problem`.
[[nodiscard]] Baseline evaluate(const core::Problem& problem, std::string name, core::Choice choice,
                                const Counting& counting = {});

/// Every computation at its fastest option: the driver's default. Its time is T_min.
[[nodiscard]] Baseline all_max(const core::Problem& problem, const Counting& counting = {});

/// One clock for the whole job, for every clock that all computations were measured at, fastest clock first.
/// Two rows for a clock whose thriftiest options are not its fastest ones. Empty: there is no common clock.
/// O(clocks x size).
[[nodiscard]] std::vector<Baseline> single_clock_sweep(const core::Problem& problem,
                                                       const Counting& counting = {});

/// The row of the sweep with the least energy among those that end by `target` exactly. kInfeasible: no
/// common clock, or even the fastest row ends later.
core::Result<Baseline> best_single_clock(const core::Problem& problem, core::Seconds target,
                                         const Counting& counting = {});

/// One clock for each model stage (forward and backward alike), least energy with an end by `target` exactly.
/// An overlapped pair runs at the clock of its forward's stage.
///
/// Exhaustive, hence exact, where the assignments number at most kExhaustiveAssignments. Else descent from
/// the best of "every stage at its fastest", all single clocks and all balances (each stage as slow as pays
/// within one busy time common to all): the step that saves most energy for each second that it adds to its
/// stage, a stage one clock down at a time, until no step saves energy in time; then exchanges, one stage a
/// clock up for another down. It is never worse than best_single_clock(), and not always optimal.
///
/// kInfeasible: a stage whose computations share no clock, or even the fastest clocks end later.
core::Result<Baseline> best_stage_clocks(const core::Problem& problem, core::Seconds target,
                                         const Counting& counting = {});

/// Assignments that best_stage_clocks() tries one by one rather than descend (some 0.1 s at 8 x 128).
inline constexpr std::size_t kExhaustiveAssignments = 4096;

}  // namespace perseus::baseline
