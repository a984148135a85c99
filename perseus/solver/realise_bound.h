// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: the bound that a flow proves.
//
// For a conserving flow phi >= 0 of value F and any assignment that ends by t (DESIGN section 3,
// "Certificate"):
//   sum c_i >= A - F t,   A = sum_i min_k (c_ik + phi_i t_ik) + sum_e phi_e lag_e.
// Synchronised at T', the assignment also pays T' sum P_r, and t <= T gives  E >= A - F T + T' sum P_r.
// Self-timed it pays t sum P_r, where t is its own end and T_min <= t <= T:  E >= A + (sum P_r - F) t. That
// is linear in t, so no less than the smaller of its values at T and at T_min. Up to T* the flow has F >= sum
// P_r and the value at T is the smaller one.
#pragma once

#include <optional>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/units.h"

namespace perseus::solver::internal {

/// The least energy of one pipeline with all its GPUs that `certificate`, which must be a conserving flow of
/// `problem`, proves for any assignment that ends by `target`; blocking counted to `sync`, or without it to
/// the assignment's own end. Rounded down by more than all rounding of its evaluation, so never above what
/// the flow proves. At least 0, which needs no proof.
[[nodiscard]] core::Joules proven_energy(const core::Problem& problem, const core::Certificate& certificate,
                                         core::Seconds target, std::optional<core::Seconds> sync);

}  // namespace perseus::solver::internal
