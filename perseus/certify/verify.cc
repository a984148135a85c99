// SPDX-License-Identifier: Apache-2.0
#include "perseus/certify/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "perseus/certify/bound.h"
#include "perseus/certify/rehearsal.h"

namespace perseus::certify {
namespace {

using core::ErrorCode;
using core::ExactTime;
using core::fail;
using core::Joules;
using core::Plan;
using core::Problem;
using core::Seconds;

core::Status check_choice(const Problem& problem, const Plan& plan) {
  if (plan.choice.size() != problem.size()) {
    return fail(ErrorCode::kInvalidInput, fmt::format("the plan has {} computations; the pipeline has {}",
                                                      plan.choice.size(), problem.size()));
  }
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (plan.choice[i] < problem.options(i).size()) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: option {} does not exist; there are {}", problem.pipeline().name(i),
                            plan.choice[i], problem.options(i).size()));
  }
  return {};
}

/// The plan's energy with blocking up to `end`. Every term is at least 0 (a rank is never busy beyond `end`),
/// so a plain sum of 2^24 long doubles is right to 1e-12.
Joules energy_until(const Problem& problem, const Plan& plan, const Rehearsal& rehearsal, Seconds end) {
  long double sum = 0;
  for (core::ComputationId i = 0; i < problem.size(); ++i)
    sum += problem.options(i)[plan.choice[i]].energy.value();
  for (std::uint32_t r = 0; r < rehearsal.busy.size(); ++r) {
    const Seconds blocked = (ExactTime(end) - rehearsal.busy[r]).nearest_seconds();
    sum += static_cast<long double>(problem.blocking_power(r).value()) * blocked.value();
  }
  return Joules(static_cast<double>(sum * problem.parallel().tensor));
}

/// A claimed number that must be `recomputed` up to an absolute tolerance. NaN is never right.
Check equal(std::string name, double claimed, double recomputed, double tolerance) {
  Check check{.name = std::move(name), .claimed = claimed, .recomputed = recomputed, .tolerance = tolerance};
  check.holds = claimed == recomputed || std::abs(claimed - recomputed) <= tolerance;
  check.detail = check.holds ? "as recomputed" : fmt::format("claims {}, but it is {}", claimed, recomputed);
  return check;
}

/// The exact end must not exceed a time of the plan.
Check not_after(std::string name, Seconds claimed, ExactTime end) {
  Check check{.name = std::move(name), .claimed = claimed.value(), .recomputed = end.ceil_seconds().value()};
  check.holds = end <= ExactTime(claimed);
  check.detail = check.holds
                     ? "the iteration ends by then"
                     : fmt::format("the iteration ends at {}, after {}", *check.recomputed, claimed.value());
  return check;
}

Check absent_claim(std::string name, double claimed) {
  Check check{.name = std::move(name), .holds = claimed == 0, .claimed = claimed};
  check.detail =
      check.holds ? "not claimed" : fmt::format("claims {} without a certificate that proves it", claimed);
  return check;
}

/// energy / bound - 1; a bound of 0 leaves no gap to energy 0 and an unlimited one to any other.
double gap_between(Joules energy, Joules bound) {
  if (bound > Joules(0)) return energy / bound - 1;
  return energy > Joules(0) ? std::numeric_limits<double>::infinity() : 0;
}

/// certificate, lower_bound_j and gap.
core::Status check_bound(const Problem& problem, const Plan& plan, Verdict& verdict) {
  std::string flaw = "absent: no bound is proven";
  if (plan.certificate) {
    const auto bound = proven_bound(problem, *plan.certificate, plan.target_time, plan.sync_time);
    if (bound) {
      verdict.lower_bound = *bound;
    } else if (bound.error().code() == ErrorCode::kClaimFalse) {
      flaw = bound.error().message();
    } else {
      return std::unexpected(bound.error());
    }
  }
  const bool sound = verdict.lower_bound.has_value();
  verdict.checks.push_back({.name = "certificate",
                            .holds = sound || !plan.certificate,
                            .detail = sound ? "a flow, conserved at every computation" : flaw});
  if (!sound) {
    verdict.checks.push_back(absent_claim("lower_bound_j", plan.lower_bound.value()));
    verdict.checks.push_back(absent_claim("gap", plan.gap));
    return {};
  }
  const double gap = gap_between(verdict.energy, *verdict.lower_bound);
  verdict.checks.push_back(equal("lower_bound_j", plan.lower_bound.value(), verdict.lower_bound->value(),
                                 kEnergyTolerance * verdict.energy.value()));
  verdict.checks.push_back(
      equal("gap", plan.gap, gap, std::isfinite(gap) ? 4 * kEnergyTolerance * (1 + gap) : 0));
  return {};
}

}  // namespace

bool Verdict::holds() const {
  return std::ranges::all_of(checks, &Check::holds);
}

core::Status Verdict::status() const {
  const auto broken = std::ranges::find(checks, false, &Check::holds);
  if (broken == checks.end()) return {};
  return fail(ErrorCode::kClaimFalse, fmt::format("{}: {}", broken->name, broken->detail));
}

core::Result<Verdict> verify(const Problem& problem, const Plan& plan) {
  PERSEUS_RETURN_IF_ERROR(check_choice(problem, plan));
  PERSEUS_RETURN_IF_ERROR(check_span("target_time_s", plan.target_time));
  if (plan.sync_time) PERSEUS_RETURN_IF_ERROR(check_span("sync_time_s", *plan.sync_time));
  PERSEUS_ASSIGN_OR_RETURN(const Rehearsal rehearsal, rehearse(problem, [&](core::ComputationId i) {
                             return problem.options(i)[plan.choice[i]].time;
                           }));
  Verdict verdict;
  verdict.time = rehearsal.end.ceil_seconds();
  verdict.energy = energy_until(problem, plan, rehearsal, plan.sync_time.value_or(verdict.time));
  verdict.checks.push_back(not_after("target_time_s", plan.target_time, rehearsal.end));
  if (plan.sync_time) verdict.checks.push_back(not_after("sync_time_s", *plan.sync_time, rehearsal.end));
  verdict.checks.push_back(equal("time_s", plan.time.value(), verdict.time.value(), 0));
  verdict.checks.push_back(equal("energy_j", plan.energy.value(), verdict.energy.value(),
                                 kEnergyTolerance * verdict.energy.value()));
  PERSEUS_RETURN_IF_ERROR(check_bound(problem, plan, verdict));
  return verdict;
}

}  // namespace perseus::certify
