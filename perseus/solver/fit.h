// SPDX-License-Identifier: Apache-2.0
//
// A fit of a measured profile under the shape that GPUs have, for planning from noisy measurements.
//
//   PERSEUS_ASSIGN_OR_RETURN(const FittedProblem fitted, fit_convex(problem));
//   ... plan and verify fitted.problem; show fitted.report ...
//
// Measured profiles scatter, and the optimum over scattered values picks the lucky ones: the plan promises
// more than it keeps. The fit asks, per (stage, instruction, knobs), for the nearest values such that
//   - time falls strictly with the clock and is a convex function of it (as a + b / clock, or a roofline,
//   is);
//   - energy is a convex function of time. So is then the effective cost e - P t for every blocking power P,
//     which is why the fit needs none.
// Nearest is least squares, each value weighted by samples / std^2 where the whole group has standard
// deviations, else by samples / value^2 (equal relative errors). Time is fitted first, energy then over the
// fitted times. Whoever plans from a fitted problem gets all times, energies and bounds in terms of the
// fitted profile; the same input gives the same fit in every bit, so a checker repeats it. docs/noise.md:
// what it is worth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/profile.h"
#include "perseus/core/result.h"

namespace perseus::solver {

/// How far measured values lie from fitted ones: measured / fitted - 1, over the options of a group.
struct Residual {
  double rms = 0;
  double most = 0;  ///< largest magnitude
};

/// One (stage, instruction, knobs) and its residuals.
struct FitGroup {
  std::uint32_t stage = 0;
  std::string instruction;
  std::optional<std::uint32_t> stage_b;
  std::vector<std::string> knobs;
  std::uint32_t options = 0;
  Residual time;
  Residual energy;
};

struct FitReport {
  core::Profile profile;  ///< the same clocks, knobs and samples with fitted times and energies, sorted
  std::vector<FitGroup> groups;  ///< in the order of the profile
  Residual time;                 ///< over all options
  Residual energy;
};

/// Fits a valid profile. Groups that have the shape already are left unchanged, as are options without a
/// clock. Refused (kInvalidInput): two options of one group with the same clock.
[[nodiscard]] core::Result<FitReport> fit_convex(const core::Profile& profile);

/// The fit where none is asked for: "convex" for a profile that states its scatter (samples or standard
/// deviations), "none" for one that does not, whose values are then taken as the truth (docs/noise.md).
[[nodiscard]] std::string default_fit(const core::Profile& profile);

/// A problem with a fitted profile, and the fit.
struct FittedProblem {
  core::Problem problem;
  FitReport report;
};
/// The same pipeline over the fitted profile. Errors as above and as Problem::build.
[[nodiscard]] core::Result<FittedProblem> fit_convex(const core::Problem& problem);

}  // namespace perseus::solver
