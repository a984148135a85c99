// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/unit_time.h"

#include <algorithm>

namespace perseus::schedule {

std::uint32_t UnitTimes::of(core::Kind kind) const {
  switch (kind) {
    case core::Kind::kForward:
      return forward;
    case core::Kind::kBackward:
      return backward;
    case core::Kind::kBackwardInput:
      return backward_input;
    case core::Kind::kBackwardWeight:
      return backward_weight;
    case core::Kind::kForwardBackward:
      return forward + backward;
    case core::Kind::kRecompute:
      return recompute;
    case core::Kind::kOther:
      return other;
  }
  return other;
}

double UnitRun::idle_share(std::uint32_t ranks) const {
  const double total = static_cast<double>(end) * ranks;
  return total == 0 ? 0 : 1 - static_cast<double>(busy) / total;
}

UnitRun run_in_units(const core::Pipeline& pipeline, const UnitTimes& times) {
  UnitRun run;
  run.start.assign(pipeline.size(), 0);
  for (const core::ComputationId i : pipeline.topological_order()) {
    const std::uint32_t duration = times.of(pipeline.computation(i).kind);
    const std::uint64_t end = run.start[i] + duration;
    run.busy += duration;
    run.end = std::max(run.end, end);
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      std::uint64_t& start = run.start[pipeline.edges()[e].to];
      start = std::max(start, end);
    }
  }
  return run;
}

}  // namespace perseus::schedule
