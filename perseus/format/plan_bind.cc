// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "perseus/format/plan_json.h"
#include "perseus/format/sha256.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::fail;
using core::Status;

Status same(std::string_view what, std::uint64_t in_plan, std::uint64_t in_job) {
  if (in_plan == in_job) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("the plan was made for {} {}; the job has {}", what, in_plan, in_job));
}

Status same_degrees(const core::Problem& problem, const ParsedPlan& plan) {
  const core::Schedule& schedule = problem.pipeline().schedule();
  PERSEUS_RETURN_IF_ERROR(same("pp", plan.ranks.size(), schedule.pipeline()));
  PERSEUS_RETURN_IF_ERROR(same("tp", plan.tensor, problem.parallel().tensor));
  PERSEUS_RETURN_IF_ERROR(same("dp", plan.data, problem.parallel().data));
  PERSEUS_RETURN_IF_ERROR(same("virtual_stages", plan.virtual_stages, schedule.virtual_stages));
  return same("microbatches", plan.microbatches, schedule.microbatches);
}

/// The computation as core::to_string() names one.
std::string name(const PlannedComputation& c) {
  core::Schedule names;
  names.instructions = {c.instruction};
  return core::to_string(names, {c.kind, c.stage, c.microbatch, c.stage_b, c.microbatch_b, 0});
}

bool same_computation(const core::Schedule& schedule, const core::Computation& job,
                      const PlannedComputation& plan) {
  const bool same_name =
      job.kind != core::Kind::kOther || schedule.instructions.at(job.instruction) == plan.instruction;
  return same_name && job.kind == plan.kind && job.stage == plan.stage && job.microbatch == plan.microbatch &&
         job.stage_b == plan.stage_b && job.microbatch_b == plan.microbatch_b;
}

Status same_orders(const core::Schedule& schedule, const ParsedPlan& plan) {
  for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
    const auto& job = schedule.ranks[r];
    const auto& planned = plan.ranks[r];
    for (std::size_t i = 0; i < std::min(job.size(), planned.size()); ++i) {
      if (same_computation(schedule, job[i], planned[i])) continue;
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("rank {}, position {}: the plan has {}, the job's schedule {}", r, i,
                              name(planned[i]), core::to_string(schedule, job[i])));
    }
    if (job.size() == planned.size()) continue;
    const bool plan_is_longer = planned.size() > job.size();
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format(
            "rank {}: the plan has {} computations, the job's schedule {}; {} is the first too {}", r,
            planned.size(), job.size(),
            plan_is_longer ? name(planned[job.size()]) : core::to_string(schedule, job[planned.size()]),
            plan_is_longer ? "many" : "few"));
  }
  return {};
}

Status same_blocking_power(const core::Problem& problem, const ParsedPlan& plan) {
  for (std::uint32_t r = 0; r < plan.blocking_power.size(); ++r) {
    const core::Watts planned = plan.blocking_power[r];
    if (planned == problem.blocking_power(r)) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the plan was made for a blocking power of {} W on rank {}; the job has {} W",
                            planned.value(), r, problem.blocking_power(r).value()));
  }
  return {};
}

Status same_fence(const core::Problem& problem, const ParsedPlan& plan) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, schedule_sha256(problem));
  if (digest == plan.schedule_sha256) return {};
  return fail(ErrorCode::kClaimFalse,
              fmt::format("schedule_sha256 is {}; the plan's own orders and degrees give {}",
                          plan.schedule_sha256, digest));
}

bool same_knobs(const core::Profile& profile, const core::Option& option, const PlannedComputation& c) {
  if (option.knobs.size() != c.knobs.size()) return false;
  for (const auto& [knob, value] : c.knobs) {
    const auto found = std::ranges::find(profile.knob_names, knob);
    const auto index = static_cast<std::size_t>(found - profile.knob_names.begin());
    if (index >= option.knobs.size() || option.knobs[index] != value) return false;
  }
  return true;
}

std::string setting(const PlannedComputation& c) {
  std::string text = c.clock ? fmt::format("{} MHz", c.clock->value()) : "no clock";
  for (const auto& [knob, value] : c.knobs) text += fmt::format(", {} {}", knob, value);
  return text;
}

core::Result<std::uint32_t> find_option(const core::Problem& problem, core::ComputationId i,
                                        const PlannedComputation& c) {
  const auto options = problem.options(i);
  const core::Option* alike = nullptr;
  for (const core::Option& option :
       std::ranges::equal_range(options, c.clock, std::greater<>(), &core::Option::clock)) {
    if (!same_knobs(problem.profile(), option, c)) continue;
    if (option.time == c.time && option.energy == c.energy) {
      return static_cast<std::uint32_t>(&option - options.data());
    }
    alike = &option;
  }
  if (alike == nullptr) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{}: the profile has no option with {}", problem.pipeline().name(i), setting(c)));
  }
  return fail(ErrorCode::kClaimFalse,
              fmt::format("{} with {}: the plan says {} s and {} J, the profile {} s and {} J",
                          problem.pipeline().name(i), setting(c), c.time.value(), c.energy.value(),
                          alike->time.value(), alike->energy.value()));
}

}  // namespace

core::Result<core::Plan> bind_plan(const core::Problem& problem, const ParsedPlan& plan) {
  PERSEUS_RETURN_IF_ERROR(same_degrees(problem, plan));
  PERSEUS_RETURN_IF_ERROR(same_orders(problem.pipeline().schedule(), plan));
  PERSEUS_RETURN_IF_ERROR(same_fence(problem, plan));
  PERSEUS_RETURN_IF_ERROR(same_blocking_power(problem, plan));
  core::Plan out;
  out.choice.reserve(problem.size());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const std::uint32_t rank = problem.pipeline().rank_of(i);
    const PlannedComputation& c = plan.ranks[rank][i - problem.pipeline().first_of_rank(rank)];
    PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t option, find_option(problem, i, c));
    out.choice.push_back(option);
  }
  out.target_time = plan.target_time;
  out.sync_time = plan.sync_time;
  out.time = plan.time;
  out.energy = plan.energy;
  out.lower_bound = plan.lower_bound;
  out.gap = plan.gap;
  out.fit = plan.fit;
  if (plan.certificate) {
    PERSEUS_ASSIGN_OR_RETURN(out.certificate, bind_certificate(problem, *plan.certificate));
  }
  return out;
}

}  // namespace perseus::format
