// SPDX-License-Identifier: Apache-2.0
//
// What a certificate proves. For every flow phi >= 0 of value F that is conserved at each computation, and
// every assignment that ends by T (weak duality: pay each computation and edge for the flow through it):
//
//   sum of effective costs >= sum_i min_k (c_ik + phi_i t_ik) + sum_e phi_e lag_e - F T  =  A - F T.
//
// Synchronised at T', an assignment pays T' sum P_r on top whatever it does: E >= A - F T + T' sum P_r.
// Self-timed, it pays for blocking up to its own end t, somewhere in [T_min, T]: E >= A + (sum P_r - F) t,
// which is linear in t and so at least the smaller of its values at T_min and at T. (For F >= sum P_r that is
// the one at T.)
#pragma once

#include <optional>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::certify {

/// Whether the certificate is a conserving flow of `problem`'s pipeline, in exact arithmetic. kClaimFalse
/// with the first computation or edge where it is not; kLimit if |unit_exponent| is above kMaxUnitExponent.
[[nodiscard]] core::Status check_flow(const core::Problem& problem, const core::Certificate& certificate);

/// Exponents of 2 that keep every product of flows and times within the range of a long double.
inline constexpr std::int32_t kMaxUnitExponent = 1000;

/// The least energy of one pipeline with all its GPUs that the certificate proves for any assignment that
/// ends by `target`; blocking is counted to `sync`, or without it to the assignment's own end. Rounded down,
/// so never above what the flow proves, and below it by less than a double's last digit; 0, which needs no
/// proof, where the flow proves less. Errors as check_flow; kInvalidInput for a time that is negative, not
/// finite or above kMaxSpan.
[[nodiscard]] core::Result<core::Joules> proven_bound(const core::Problem& problem,
                                                      const core::Certificate& certificate,
                                                      core::Seconds target,
                                                      std::optional<core::Seconds> sync);

/// The longest iteration that core/exact_time.h can hold: 2^24 computations of less than 2^20 s.
inline constexpr core::Seconds kMaxSpan{0x1p44};

/// Refuses a time of the plan that is no time. `name` stands in the message.
[[nodiscard]] core::Status check_span(const char* name, core::Seconds time);

}  // namespace perseus::certify
