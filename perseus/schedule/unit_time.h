// SPDX-License-Identifier: Apache-2.0
//
// A schedule run with small whole durations per kind: what schedules look like in papers.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/core/pipeline.h"

namespace perseus::schedule {

/// Duration of each kind in units. The default follows the rule of thumb that a backward is twice a forward
/// (arXiv 2401.10241, section 2: F, input and weight gradient alike). An FB takes the sum of its halves.
struct UnitTimes {
  std::uint32_t forward = 1;
  std::uint32_t backward = 2;
  std::uint32_t backward_input = 1;
  std::uint32_t backward_weight = 1;
  std::uint32_t recompute = 1;
  std::uint32_t other = 1;

  [[nodiscard]] std::uint32_t of(core::Kind kind) const;
};

/// When each computation starts and when the last one ends, every one starting as early as it can.
struct UnitRun {
  std::vector<std::uint64_t> start;  ///< by ComputationId, in units
  std::uint64_t end = 0;             ///< makespan in units
  std::uint64_t busy = 0;            ///< units of work, summed over the ranks

  /// Share of the ranks' time in which they wait, 0 .. 1.
  [[nodiscard]] double idle_share(std::uint32_t ranks) const;
};

/// Pure; time proportional to the pipeline. No transfer takes any time.
[[nodiscard]] UnitRun run_in_units(const core::Pipeline& pipeline, const UnitTimes& times = {});

}  // namespace perseus::schedule
