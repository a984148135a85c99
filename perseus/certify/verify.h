// SPDX-License-Identifier: Apache-2.0
//
// The checker: does a plan keep what it promises? It starts from the problem and the plan alone, runs the
// iteration through by itself, counts the energy, and works out what the plan's certificate proves. Nothing
// of a solver is used.
//
//   PERSEUS_ASSIGN_OR_RETURN(const Verdict verdict, verify(problem, plan));
//   for (const Check& check : verdict.checks) ...  // a table
//   PERSEUS_RETURN_IF_ERROR(verdict.status());     // kClaimFalse with the first false claim
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::certify {

/// Tolerance of energies, of the lower bound and, fourfold, of 1 + gap: relative. Energies are sums of up to
/// 2^24 doubles, which any careful summation gets right to 1e-12. Times have no tolerance.
inline constexpr double kEnergyTolerance = 1e-9;

/// One claim of a plan and what became of it.
struct Check {
  std::string name;               ///< key of the plan JSON: "time_s", "energy_j", "certificate", ...
  bool holds = false;             ///< the claim is true
  std::optional<double> claimed;  ///< in the unit that the name ends in; absent where the claim is no number
  std::optional<double>
      recomputed;        ///< what it should be; for a limit ("target_time_s") what must not exceed it
  double tolerance = 0;  ///< allowed difference, absolute; 0: none
  std::string detail;    ///< one sentence for a person, whether it holds or not
};

/// All checks of one plan, in the order of a plan JSON, and the numbers found on the way.
struct Verdict {
  std::vector<Check> checks;
  core::Seconds time;                       ///< makespan, rounded up
  core::Joules energy;                      ///< of one pipeline with all its GPUs
  std::optional<core::Joules> lower_bound;  ///< what the certificate proves; absent without a sound one

  /// Every claim is true.
  [[nodiscard]] bool holds() const;
  /// Success, or kClaimFalse that names the first false claim with both values.
  [[nodiscard]] core::Status status() const;
};

/// Checks every claim of `plan`:
///   time_s         the exact makespan, rounded up to a double: equal in all bits
///   target_time_s  the exact makespan does not exceed it: without tolerance
///   sync_time_s    (synchronised plans) nor this
///   energy_j       within kEnergyTolerance
///   certificate    a conserving flow, in integers
///   lower_bound_j  what the certificate proves, within kEnergyTolerance of the energy
///   gap            energy / lower bound - 1 of the recomputed values, within 4 kEnergyTolerance of 1 + gap
/// A plan without a certificate may claim no bound: lower_bound and gap must be 0, else they are false for
/// want of proof. `problem` must be the one that the plan was made for, with the fit that the plan names
/// already applied. Errors, when the plan cannot be checked at all: kInvalidInput for a choice of another
/// size, an option that does not exist, a target or sync time that is no time; kLimit for a certificate in
/// absurd units.
[[nodiscard]] core::Result<Verdict> verify(const core::Problem& problem, const core::Plan& plan);

}  // namespace perseus::certify
