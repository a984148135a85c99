// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: a Problem in whole numbers. Times become ticks of 2^k s (rounded up, so that a
// duration that holds an option in ticks holds it in truth), slopes of the effective cost become multiples of
// 2^j W.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::solver {

/// 128 bits hold any sum of slope x time of this room.
__extension__ typedef __int128 Int128;

/// Flow and slope without limit: left of the fastest option, and on an edge without slack. All finite flows
/// stay below kFlowLimit, so that a residual is unlimited exactly if it is at least kFlowLimit.
inline constexpr std::int64_t kUnlimited = std::int64_t{1} << 62;
inline constexpr std::int64_t kFlowLimit = std::int64_t{1} << 61;

using CurveId = std::uint32_t;

/// Least and most flow, both included.
struct FlowRange {
  std::int64_t least = 0;
  std::int64_t most = 0;
};

/// Convex, falling, piecewise linear costs, many in one array. The points of a curve have rising times
/// (ticks); `slope` of point k is that of the segment right of it (> 0, falling; the last is 0).
class Curves {
 public:
  CurveId add(std::span<const std::int64_t> times, std::span<const std::int64_t> slopes);
  [[nodiscard]] std::uint32_t first(CurveId c) const { return first_[c]; }
  [[nodiscard]] std::uint32_t size(CurveId c) const { return first_[c + 1] - first_[c]; }
  [[nodiscard]] std::span<const std::int64_t> times(CurveId c) const { return {&time_[first_[c]], size(c)}; }
  [[nodiscard]] std::span<const std::int64_t> slopes(CurveId c) const {
    return {&slope_[first_[c]], size(c)};
  }
  [[nodiscard]] std::int64_t fastest(CurveId c) const { return time_[first_[c]]; }
  [[nodiscard]] std::int64_t slowest(CurveId c) const { return time_[first_[c + 1] - 1]; }
  /// All points of all curves; curve c owns first(c) .. first(c) + size(c) - 1.
  [[nodiscard]] const std::vector<std::int64_t>& all_times() const { return time_; }
  [[nodiscard]] const std::vector<std::int64_t>& all_slopes() const { return slope_; }
  [[nodiscard]] CurveId count() const { return static_cast<CurveId>(first_.size() - 1); }

  /// Cost above the curve's least one at span x >= fastest(c), in ticks x units.
  [[nodiscard]] Int128 cost(CurveId c, std::int64_t x) const;
  /// The flows that complementary slackness allows on an arc of curve c at span x >= fastest(c).
  [[nodiscard]] FlowRange flow_range(CurveId c, std::int64_t x) const;
  /// Every `step`-th point, the first and the last kept.
  [[nodiscard]] CurveId add_coarse(const Curves& fine, CurveId c, std::uint32_t step);

 private:
  std::vector<std::int64_t> time_, slope_;
  std::vector<std::uint32_t> first_{0};
};

/// A Problem in whole numbers.
struct Scaled {
  std::int32_t time_exponent = 0;   ///< a tick is 2^time_exponent s
  std::int32_t power_exponent = 0;  ///< slopes and flows are in 2^power_exponent W
  Curves curves;                    ///< one per option set, equal ids
  std::vector<std::int64_t> lag;    ///< per edge, ticks
  std::int64_t total_blocking =
      0;                    ///< sum P_r, rounded down: a flow exceeds it exactly if it exceeds the truth
  core::Joules least_cost;  ///< sum of the least effective costs, per GPU

  [[nodiscard]] core::Seconds seconds(std::int64_t ticks) const;
  [[nodiscard]] core::Watts watts(std::int64_t flow) const;
};

/// kOverflow if slopes are so steep that a unit of flow would exceed 2^-4 W.
core::Result<Scaled> scale(const core::Problem& problem);

}  // namespace perseus::solver
