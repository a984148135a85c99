// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: weighted least squares under a shape, in one dimension.
#pragma once

#include <span>
#include <vector>

namespace perseus::solver::internal {

enum class Slope : unsigned char {
  kAny,      ///< convex
  kFalling,  ///< convex and nowhere rising
};

/// Values at `x` (strictly rising) of the convex function that minimises sum weight (value - y)^2. All three
/// have the same size, at least 1; weights are > 0. Values that already have the shape come back unchanged.
/// O(n) per knot that is tried: the support reduction of Groeneboom, Jongbloed and Wellner (2008).
[[nodiscard]] std::vector<double> convex_regression(std::span<const double> x, std::span<const double> y,
                                                    std::span<const double> weight, Slope slope);

}  // namespace perseus::solver::internal
