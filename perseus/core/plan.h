// SPDX-License-Identifier: Apache-2.0
//
// A plan: one option per computation, what it promises, and the flow that proves how good it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/pipeline.h"
#include "perseus/core/problem.h"
#include "perseus/core/units.h"

namespace perseus::core {

/// A conserving flow through the computations (DESIGN section 3, "Certificate"). All flows are whole
/// multiples of 2^unit_exponent watts, so conservation is checked without rounding. Per GPU (tensor width not
/// included).
struct Certificate {
  std::int32_t unit_exponent = 0;         ///< flows are in units of 2^unit_exponent W
  std::int64_t value = 0;                 ///< F >= 0: what leaves the source and reaches the sink
  std::vector<std::int64_t> computation;  ///< flow through each computation, >= 0; size = problem size
  struct EdgeFlow {
    EdgeId edge = 0;
    std::int64_t flow = 0;  ///< > 0
  };
  std::vector<EdgeFlow> edges;  ///< the edges that carry flow, by rising id
  // The source feeds computation i with computation[i] - (sum of its in-edges) >= 0; the sink takes what its
  // out-edges do not carry. Both sums over all computations must be `value`.
};

/// One option per computation with what it promises. Energies are of one pipeline with all its GPUs, blocking
/// included up to sync_time (synchronised) or time (self-timed).
struct Plan {
  Choice choice;
  Seconds target_time;               ///< the iteration time it was made for; time <= target_time exactly
  std::optional<Seconds> sync_time;  ///< T' of the synchronised question; absent: self-timed
  Seconds time;                      ///< makespan, rounded up to a double
  Joules energy;
  Joules lower_bound;  ///< proven least energy of any assignment that ends by target_time, blocking counted
                       ///< alike
  double gap = 0;      ///< energy / lower_bound - 1
  std::string fit = "none";  ///< the fit that the solver's input went through ("none", "convex")
  std::optional<Certificate> certificate;
};

}  // namespace perseus::core
