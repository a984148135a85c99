// SPDX-License-Identifier: Apache-2.0
//
// A schedule as text that a person reads: `perseus schedule --format text`.
//
//   1f1b: 2 ranks, 2 stages, 3 microbatches, 12 computations
//   unit times F=1 B=2: 12 units, ranks idle 25.0 % of the time ('.' = idle)
//
//   rank 0 | 0F0 0F1 .   .   0B0---- 0F2 0B1---- .   0B2----
//   rank 1 | .   1F0 1B0---- 1F1 1B1---- 1F2 1B2---- .   .
#pragma once

#include <cstddef>
#include <string>

#include "perseus/core/schedule.h"
#include "perseus/schedule/unit_time.h"

namespace perseus::schedule {

/// How much is drawn.
struct RenderOptions {
  /// Columns of the widest rank's line; 0 = no bound. 160 fits a wide terminal (assumed).
  std::size_t width = 160;
  /// Above this many computations, or where the schedule cannot run, the orders are listed without times. The
  /// default is drawn in well under a second.
  std::size_t max_drawn = std::size_t{1} << 20;
  UnitTimes times = {};  ///< durations that are drawn
};

/// One line per rank under a head of what is shown; what does not fit the width is cut, and a last line says
/// so and how to see it. Cells read as in the CSV form, but an FB is "0F7+7B3". Ends with a newline. Never
/// fails: a schedule that cannot run is listed with the reason. Time proportional to the computations.
[[nodiscard]] std::string render_text(const core::Schedule& schedule, const RenderOptions& options = {});

}  // namespace perseus::schedule
