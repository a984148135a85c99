// SPDX-License-Identifier: Apache-2.0
//
// What `perseus frontier --json` prints (DESIGN section 6; schema/frontier.schema.json), from a plain struct.
//
//   FrontierReport report;
//   report.t_min = frontier.t_min(); ...
//   std::string text = write_frontier_json(report);
//
// Every figure of it is predicted from the profile; the object says so in "origin".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/units.h"

namespace perseus::format {

/// A plan on the frontier, realised with measured clocks.
struct FrontierPoint {
  core::Seconds target_time;
  core::Seconds time;  ///< of the clock plan; <= target_time
  core::Joules
      energy;  ///< of one pipeline with all its GPUs, blocking counted to `time` (or to the sync time)
  core::Joules lower_bound;  ///< proven least energy of any assignment that ends by target_time
  double gap = 0;            ///< energy / lower_bound - 1; not finite where the bound is not positive
  core::Watts marginal;      ///< -dE/dT of the pipeline at target_time
};

/// A corner of the exact frontier, not realised.
struct FrontierBreakpoint {
  core::Seconds target_time;
  core::Joules lower_bound;
  core::Watts marginal;  ///< -dE/dT for times just below target_time
};

/// Time and energy of one way to run the pipeline.
struct FrontierFigure {
  std::string name;
  core::Seconds time;
  core::Joules energy;
};

/// The synchronised question: somebody else ends the iteration at sync_time.
struct FrontierStraggler {
  double factor = 1;         ///< T' / T_min
  core::Seconds sync_time;   ///< T'
  core::Seconds time;        ///< of the plan for it
  core::Joules energy;       ///< of that plan, blocking counted to T'
  core::Joules lower_bound;  ///< proven least energy at T'
  double gap = 0;
  core::Joules all_max_energy;   ///< all-max, blocking counted to T'
  core::Joules intrinsic_bloat;  ///< what all-max wastes that the plan for T_min saves, waiting to T'
  core::Joules extrinsic_bloat;  ///< what the plan for T_min wastes that the plan for T' saves
};

/// Everything that the object holds.
struct FrontierReport {
  core::Seconds t_min;
  core::Seconds t_star;
  core::Seconds t_max;
  FrontierFigure all_max;  ///< its name is not written
  std::vector<FrontierPoint> points;
  /// Present with --all: the points are these corners instead.
  std::optional<std::vector<FrontierBreakpoint>> breakpoints;
  std::vector<FrontierFigure> baselines;
  std::uint64_t breakpoint_count = 0;
  core::Seconds solver_time;    ///< of the exact frontier alone over the range asked for
  std::string range = "tstar";  ///< "tstar" or "tmax"
  std::string fit = "none";
  std::optional<FrontierStraggler> straggler;
  /// Pipelines of the job. With more than one, every energy has a `job_energy_j` beside it that is so many
  /// times larger, and every proven bound a `job_lower_bound_j`.
  std::uint32_t data = 1;
};

/// The object, one line per point. Numbers are the shortest that read back the same; a figure that does not
/// exist (an infinite gap) is null.
[[nodiscard]] std::string write_frontier_json(const FrontierReport& report);

/// The points as CSV with a header of the JSON names; with `breakpoints` these.
[[nodiscard]] std::string write_points_csv(const FrontierReport& report);

}  // namespace perseus::format
