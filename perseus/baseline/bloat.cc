// SPDX-License-Identifier: Apache-2.0
#include "perseus/baseline/bloat.h"

#include <algorithm>

namespace perseus::baseline {
namespace {

core::Seconds makespan(const core::Problem& problem, const core::Choice& choice) {
  return core::exact_timing(problem, choice).makespan.ceil_seconds();
}

}  // namespace

BloatBreakdown bloat(const core::Problem& problem, const core::Choice& fastest,
                     const std::optional<StragglerPlan>& plan) {
  const core::Choice max = core::fastest_choice(problem);
  const core::Seconds own = makespan(problem, max);
  BloatBreakdown result;
  result.all_max = core::pipeline_energy(problem, max, own);
  result.intrinsic = result.all_max - core::pipeline_energy(problem, fastest, own);
  if (!plan) return result;
  const core::Seconds sync = std::max(plan->sync_time, makespan(problem, plan->choice));
  result.straggler =
      BloatBreakdown::Straggler{.sync_time = sync,
                                .all_max = core::pipeline_energy(problem, max, sync),
                                .extrinsic = core::pipeline_energy(problem, fastest, sync) -
                                             core::pipeline_energy(problem, plan->choice, sync)};
  return result;
}

}  // namespace perseus::baseline
