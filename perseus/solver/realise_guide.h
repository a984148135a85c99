// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: what a relaxed optimum says about each computation, the guide of all rounding.
//
// With a conserving flow of value F the cost of any choice is the lower bound plus a sum of losses, none of
// them negative (DESIGN section 3): per computation the reduced cost c_k + flow t_k - min over k, per edge
// the flow times the time for which the edge idles. So partial choices in order of time have losses that can
// be compared. Losses do not see that a partial choice runs early or late as a whole; a small charge for
// being off the relaxed optimum's times (`drift`) keeps it near.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/solver/frontier.h"
#include "perseus/solver/realise_flat.h"

namespace perseus::solver::internal {

/// By position.
struct Guide {
  std::vector<std::uint32_t> centre;  ///< slowest rung that the relaxed duration holds
  std::vector<Ticks> latest_end;      ///< of the relaxed optimum; the fastest options always fit
  /// Latest ends allowed, a little later; whatever keeps one of them has a rung behind it that keeps the
  /// next.
  std::vector<Ticks> deadline;
};

/// The guide of one relaxed optimum. `flat` is its problem at its target.
[[nodiscard]] Guide make_guide(const FlatProblem& flat, const Relaxed& relaxed);

/// One rounding in order of time: each computation takes the rung of least loss, charged at once for the
/// joins that its end settles. `drift`: the price of being early or late, as a share of the computation's
/// flow. Ends by the target in ticks.
[[nodiscard]] Rungs round_in_time(const FlatProblem& flat, const Guide& guide, double drift);

}  // namespace perseus::solver::internal
