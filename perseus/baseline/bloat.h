// SPDX-License-Identifier: Apache-2.0
//
// Energy bloat: what all-max spends for nothing (DESIGN section 1).
//
//   const BloatBreakdown b = bloat(problem, fastest_plan.choice, {{plan.choice, straggler_time}});
//   b.intrinsic_share();  // 0.13: 13 % of all-max's energy without losing a microsecond
#pragma once

#include <optional>

#include "perseus/core/problem.h"
#include "perseus/core/units.h"

namespace perseus::baseline {

/// A plan for an iteration that a straggler ends.
struct StragglerPlan {
  core::Choice choice;
  core::Seconds sync_time;  ///< T'
};

/// Energies of one pipeline with all its GPUs, blocking included.
struct BloatBreakdown {
  /// Counted to the end of the pipeline's own iteration.
  core::Joules all_max;
  core::Joules intrinsic;  ///< all_max less the frontier's plan of the same iteration time

  /// Counted to T' for every entry, only with a straggler. Intrinsic bloat is the same there: both wait
  /// equally longer.
  struct Straggler {
    core::Seconds sync_time;  ///< T', or the plan's own time if that is later
    core::Joules all_max;
    core::Joules extrinsic;  ///< the fastest frontier plan less the plan for T'
  };
  std::optional<Straggler> straggler;

  /// As shares of all-max's energy, counted to the same time; those of a straggler are 0 without one.
  [[nodiscard]] double intrinsic_share() const { return intrinsic / all_max; }
  [[nodiscard]] double straggler_intrinsic_share() const {
    return straggler ? intrinsic / straggler->all_max : 0;
  }
  [[nodiscard]] double extrinsic_share() const {
    return straggler ? straggler->extrinsic / straggler->all_max : 0;
  }
};

/// `fastest`: the frontier's plan for T_min. `plan`: the synchronised plan for a straggler's T', if there is
/// one. Both must be valid choices of `problem`; `fastest` ends when all-max ends or earlier.
[[nodiscard]] BloatBreakdown bloat(const core::Problem& problem, const core::Choice& fastest,
                                   const std::optional<StragglerPlan>& plan = std::nullopt);

}  // namespace perseus::baseline
