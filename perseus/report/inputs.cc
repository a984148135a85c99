// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/inputs.h"

#include <fmt/format.h>

#include <cmath>

#include "perseus/core/exact_time.h"

namespace perseus::report {
namespace {

core::Status check_number(double value, std::string_view what) {
  if (std::isfinite(value)) return {};
  return core::fail(core::ErrorCode::kInvalidInput,
                    fmt::format("report: {} is {}; it must be finite", what, value));
}

core::Status check_choice(const core::Problem& problem, const core::Choice& choice, std::string_view what) {
  if (choice.size() != problem.size()) {
    return core::fail(
        core::ErrorCode::kInvalidInput,
        fmt::format("report: {} has {} options for {} computations", what, choice.size(), problem.size()));
  }
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (choice[i] < problem.options(i).size()) continue;
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("report: {} gives {} option {}; it has {}", what,
                                  problem.pipeline().name(i), choice[i], problem.options(i).size()));
  }
  return {};
}

core::Status check_points(const core::Problem& problem, const std::vector<ReportPoint>& points,
                          std::string_view list) {
  for (std::size_t p = 0; p < points.size(); ++p) {
    const core::Plan& plan = points[p].plan;
    const std::string what = fmt::format("{} {}", list, p);
    PERSEUS_RETURN_IF_ERROR(check_choice(problem, plan.choice, what));
    for (const double number : {plan.target_time.value(), plan.time.value(), plan.energy.value(),
                                plan.lower_bound.value(), plan.gap, points[p].marginal.value()}) {
      PERSEUS_RETURN_IF_ERROR(check_number(number, "a number of " + what));
    }
    if (p > 0 && plan.target_time < points[p - 1].plan.target_time) {
      return core::fail(core::ErrorCode::kInvalidInput,
                        fmt::format("report: {} has target {} s after {} s; targets must rise", what,
                                    plan.target_time.value(), points[p - 1].plan.target_time.value()));
    }
  }
  return {};
}

core::Status check_baselines(const std::vector<ReportBaseline>& baselines) {
  for (const ReportBaseline& baseline : baselines) {
    PERSEUS_RETURN_IF_ERROR(check_number(baseline.time.value(), "the time of baseline " + baseline.name));
    PERSEUS_RETURN_IF_ERROR(check_number(baseline.energy.value(), "the energy of baseline " + baseline.name));
  }
  return {};
}

core::Status check_curve(const std::vector<CurveSample>& curve) {
  for (const CurveSample& sample : curve) {
    PERSEUS_RETURN_IF_ERROR(check_number(sample.target.value(), "a time of the curve"));
    PERSEUS_RETURN_IF_ERROR(check_number(sample.lower_bound.value(), "an energy of the curve"));
  }
  return {};
}

}  // namespace

core::Status check_inputs(const ReportInputs& inputs) {
  if (inputs.points.empty()) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      "report: the frontier has no point; at least one is needed");
  }
  PERSEUS_RETURN_IF_ERROR(check_points(inputs.problem, inputs.points, "point"));
  PERSEUS_RETURN_IF_ERROR(check_points(inputs.problem, inputs.straggler_points, "straggler point"));
  PERSEUS_RETURN_IF_ERROR(check_choice(inputs.problem, inputs.all_max, "all-max"));
  PERSEUS_RETURN_IF_ERROR(check_baselines(inputs.baselines));
  PERSEUS_RETURN_IF_ERROR(check_curve(inputs.curve));
  PERSEUS_RETURN_IF_ERROR(check_number(inputs.t_min.value(), "T_min"));
  PERSEUS_RETURN_IF_ERROR(check_number(inputs.t_star.value(), "T*"));
  return check_number(inputs.t_max.value(), "T_max");
}

core::Status check_inputs(const ReportInputs& inputs, std::size_t point) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs));
  if (point < inputs.points.size()) return {};
  return core::fail(
      core::ErrorCode::kInvalidInput,
      fmt::format("report: there is no point {}; the last is {}", point, inputs.points.size() - 1));
}

ReportBaseline all_max_baseline(const ReportInputs& inputs) {
  const core::Seconds time = core::exact_timing(inputs.problem, inputs.all_max).makespan.ceil_seconds();
  return {"all-max", time, core::pipeline_energy(inputs.problem, inputs.all_max, time)};
}

std::size_t equal_time_point(const ReportInputs& inputs) {
  const core::Seconds limit = all_max_baseline(inputs).time;
  std::size_t best = 0;
  for (std::size_t p = 1; p < inputs.points.size(); ++p) {
    const core::Plan& plan = inputs.points[p].plan;
    if (plan.time <= limit && plan.energy < inputs.points[best].plan.energy) best = p;
  }
  return best;
}

std::string_view name(Evidence evidence) {
  switch (evidence) {
    case Evidence::kSimulated:
      return "simulated";
    case Evidence::kMeasured:
      return "measured";
    case Evidence::kPredicted:
      break;
  }
  return "predicted";
}

std::string instruction(const core::Schedule& schedule, const core::Computation& computation) {
  if (computation.kind != core::Kind::kOther) return std::string(core::instruction_name(computation.kind));
  return schedule.instructions[computation.instruction];
}

core::Watts power(const core::Option& option) {
  return option.time > core::Seconds(0) ? option.energy / option.time : core::Watts(0);
}

}  // namespace perseus::report
