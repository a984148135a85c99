// SPDX-License-Identifier: Apache-2.0
//
// A slow and simple solver of the frontier problem, to hold the fast one against: longest paths found anew
// for every augmentation, nothing incremental, nothing scaled. Times are exact; flows and costs are long
// doubles.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"

namespace perseus::tests {

/// The exact frontier C(T) of the continuous problem, per GPU.
class ReferenceFrontier {
 public:
  /// One corner: at `time` the cost is `cost`, and just below it the slope is `slope` = -dC/dT.
  struct Corner {
    long double time_s = 0;
    long double slope_w = 0;  ///< infinite at T_min
    long double cost_j = 0;
  };

  /// Small problems only: each of the many augmentations costs up to O(computations * edges).
  static ReferenceFrontier solve(const core::Problem& problem);

  /// All corners from T_max down to T_min, slopes strictly rising.
  [[nodiscard]] const std::vector<Corner>& corners() const { return corners_; }
  [[nodiscard]] long double t_min_s() const { return corners_.back().time_s; }
  [[nodiscard]] long double t_max_s() const { return corners_.front().time_s; }
  /// Where the slope passes `watts` (T* for the total blocking power): the least T with slope just above it
  /// <= watts.
  [[nodiscard]] long double time_at_slope(long double watts) const;
  /// C(T) for T >= T_min; constant from T_max on.
  [[nodiscard]] long double cost_at(long double time_s) const;

 private:
  std::vector<Corner> corners_;
};

/// An optimal flow at `target` by the same road in whole units of 2^unit_exponent W: a certificate whose
/// bound lies below C(target) by the rounding of the slopes only, at most one unit times the time of every
/// computation.
[[nodiscard]] core::Certificate reference_certificate(const core::Problem& problem, core::Seconds target,
                                                      std::int32_t unit_exponent = -20);

/// The bound that a certificate proves for the continuous cost, per GPU, straight from its formula in long
/// doubles without care for the last digits: sum_i min_k (c_ik + phi_i t_ik) + sum_e phi_e lag_e - F target.
[[nodiscard]] long double plain_bound(const core::Problem& problem, const core::Certificate& certificate,
                                      core::Seconds target);

/// A plan with true claims, from formulas in core. Its bound is plain_bound() with blocking counted as in the
/// plan, valid for a self-timed plan only if the certificate's value is at least the total blocking power.
[[nodiscard]] core::Plan honest_plan(const core::Problem& problem, core::Choice choice, core::Seconds target,
                                     std::optional<core::Seconds> sync, core::Certificate certificate);

}  // namespace perseus::tests
