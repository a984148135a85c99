// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "perseus/format/certificate_text.h"
#include "perseus/format/numbers.h"
#include "perseus/format/plan_json.h"
#include "perseus/format/sha256.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

PlannedComputation describe(const core::Problem& problem, core::ComputationId i, std::uint32_t choice) {
  const core::Pipeline& pipeline = problem.pipeline();
  const core::Computation& c = pipeline.computation(i);
  const core::Option& option = problem.options(i)[choice];
  PlannedComputation out;
  out.kind = c.kind;
  if (c.kind == core::Kind::kOther) out.instruction = pipeline.schedule().instructions.at(c.instruction);
  out.stage = c.stage;
  out.microbatch = c.microbatch;
  out.stage_b = c.stage_b;
  out.microbatch_b = c.microbatch_b;
  out.clock = option.clock;
  out.time = option.time;
  out.energy = option.energy;
  for (std::size_t k = 0; k < option.knobs.size(); ++k) {
    out.knobs.emplace_back(problem.profile().knob_names.at(k), option.knobs[k]);
  }
  return out;
}

void append_computation(std::string& out, const PlannedComputation& c) {
  out += R"({"kind":)";
  append_json_string(out,
                     c.kind == core::Kind::kOther ? std::string_view(c.instruction) : core::letter(c.kind));
  fmt::format_to(std::back_inserter(out), R"(,"stage":{},"microbatch":{})", c.stage, c.microbatch);
  if (c.kind == core::Kind::kForwardBackward) {
    fmt::format_to(std::back_inserter(out), R"(,"stage_b":{},"microbatch_b":{})", c.stage_b, c.microbatch_b);
  }
  out += R"(,"clock_mhz":)";
  out += c.clock ? fmt::format("{}", c.clock->value()) : "null";
  out += R"(,"time_s":)";
  append_number(out, c.time.value());
  out += R"(,"energy_j":)";
  append_number(out, c.energy.value());
  out += R"(,"knobs":{)";
  for (std::size_t k = 0; k < c.knobs.size(); ++k) {
    if (k != 0) out += ',';
    append_json_string(out, c.knobs[k].first);
    out += ':';
    append_json_string(out, c.knobs[k].second);
  }
  out += "}}";
}

void append_blocking_power(std::string& out, const std::vector<core::Watts>& power) {
  if (!power.empty() && std::ranges::all_of(power, [&](core::Watts p) { return p == power.front(); })) {
    append_number(out, power.front().value());
    return;
  }
  out += '[';
  for (std::size_t r = 0; r < power.size(); ++r) {
    if (r != 0) out += ',';
    append_number(out, power[r].value());
  }
  out += ']';
}

void append_ranks(std::string& out, const ParsedPlan& plan) {
  out += '[';
  for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
    out += r == 0 ? "\n    [" : ",\n    [";
    for (std::size_t i = 0; i < plan.ranks[r].size(); ++i) {
      out += i == 0 ? "\n      " : ",\n      ";
      append_computation(out, plan.ranks[r][i]);
    }
    out += "\n    ]";
  }
  out += "\n  ]";
}

/// Appends `"name": ` on a line of its own; the value follows.
void append_name(std::string& out, std::string_view name) {
  out += out.size() == 1 ? "\n  " : ",\n  ";
  append_json_string(out, name);
  out += ": ";
}

void append_named(std::string& out, std::string_view name, double value) {
  append_name(out, name);
  append_number(out, value);
}

void append_named(std::string& out, std::string_view name, std::uint32_t value) {
  append_name(out, name);
  fmt::format_to(std::back_inserter(out), "{}", value);
}

void append_named(std::string& out, std::string_view name, std::string_view value) {
  append_name(out, name);
  append_json_string(out, value);
}

}  // namespace

core::Result<ParsedPlan> describe_plan(const core::Problem& problem, const core::Plan& plan) {
  const core::Pipeline& pipeline = problem.pipeline();
  const core::Schedule& schedule = pipeline.schedule();
  ParsedPlan out;
  PERSEUS_ASSIGN_OR_RETURN(out.schedule_sha256, schedule_sha256(problem));
  out.target_time = plan.target_time;
  out.sync_time = plan.sync_time;
  out.time = plan.time;
  out.energy = plan.energy;
  out.lower_bound = plan.lower_bound;
  out.gap = std::isfinite(plan.gap) ? plan.gap : std::numeric_limits<double>::infinity();
  out.blocking_power = problem.inputs().blocking_power;
  out.schedule = schedule.name;
  out.tensor = problem.parallel().tensor;
  out.data = problem.parallel().data;
  out.virtual_stages = schedule.virtual_stages;
  out.microbatches = schedule.microbatches;
  out.fit = plan.fit;
  if (plan.certificate) out.certificate = describe_certificate(problem, *plan.certificate);
  out.ranks.resize(schedule.pipeline());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    out.ranks[pipeline.rank_of(i)].push_back(describe(problem, i, plan.choice.at(i)));
  }
  return out;
}

std::string write_plan_json(const ParsedPlan& plan) {
  std::string out = "{";
  append_named(out, "format", std::string_view("perseus-plan/1"));
  append_named(out, "target_time_s", plan.target_time.value());
  append_name(out, "sync_time_s");
  out += plan.sync_time ? number_text(plan.sync_time->value()) : "null";
  append_named(out, "time_s", plan.time.value());
  append_named(out, "energy_j", plan.energy.value());
  append_named(out, "lower_bound_j", plan.lower_bound.value());
  append_named(out, "gap", plan.gap);
  append_name(out, "blocking_power_w");
  append_blocking_power(out, plan.blocking_power);
  append_named(out, "schedule", std::string_view(plan.schedule));
  append_named(out, "schedule_sha256", std::string_view(plan.schedule_sha256));
  append_named(out, "pp", static_cast<std::uint32_t>(plan.ranks.size()));
  append_named(out, "tp", plan.tensor);
  append_named(out, "dp", plan.data);
  append_named(out, "virtual_stages", plan.virtual_stages);
  append_named(out, "microbatches", plan.microbatches);
  append_named(out, "fit", std::string_view(plan.fit));
  append_name(out, "certificate");
  if (plan.certificate) {
    append_certificate(out, *plan.certificate);
  } else {
    out += "null";
  }
  append_name(out, "ranks");
  append_ranks(out, plan);
  out += "\n}\n";
  return out;
}

core::Result<std::string> write_plan_json(const core::Problem& problem, const core::Plan& plan) {
  PERSEUS_ASSIGN_OR_RETURN(const ParsedPlan described, describe_plan(problem, plan));
  return write_plan_json(described);
}

}  // namespace perseus::format
