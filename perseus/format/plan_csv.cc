// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/plan_csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

bool has_pairs(const core::Pipeline& pipeline) {
  const auto is_pair = [](const core::Computation& c) { return c.kind == core::Kind::kForwardBackward; };
  return std::ranges::any_of(pipeline.schedule().ranks,
                             [&](const auto& rank) { return std::ranges::any_of(rank, is_pair); });
}

void append_computation(std::string& out, const core::Schedule& schedule, const core::Computation& c,
                        bool pairs) {
  append_csv_field(out, c.kind == core::Kind::kOther
                            ? std::string_view(schedule.instructions.at(c.instruction))
                            : core::letter(c.kind));
  fmt::format_to(std::back_inserter(out), ",{},{},", c.stage, c.microbatch);
  if (!pairs) return;
  if (c.kind == core::Kind::kForwardBackward) {
    fmt::format_to(std::back_inserter(out), "{},{},", c.stage_b, c.microbatch_b);
  } else {
    out += ",,";
  }
}

void append_option(std::string& out, const core::Option& option, std::size_t knobs) {
  if (option.clock) fmt::format_to(std::back_inserter(out), "{}", option.clock->value());
  out += ',';
  append_number(out, option.time.value());
  out += ',';
  append_number(out, option.energy.value());
  for (std::size_t k = 0; k < knobs; ++k) {
    out += ',';
    if (k < option.knobs.size()) append_csv_field(out, option.knobs[k]);
  }
  out += '\n';
}

}  // namespace

std::string write_plan_csv(const core::Problem& problem, const core::Plan& plan) {
  const core::Pipeline& pipeline = problem.pipeline();
  const bool pairs = has_pairs(pipeline);
  std::string out = "rank,position,kind,stage,microbatch,";
  if (pairs) out += "stage_b,microbatch_b,";
  out += "clock_mhz,time_s,energy_j";
  const auto& knobs = problem.profile().knob_names;
  for (const std::string& name : knobs) {
    out += ',';
    append_csv_field(out, name);
  }
  out += '\n';
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const std::uint32_t rank = pipeline.rank_of(i);
    fmt::format_to(std::back_inserter(out), "{},{},", rank, i - pipeline.first_of_rank(rank));
    append_computation(out, pipeline.schedule(), pipeline.computation(i), pairs);
    append_option(out, problem.options(i)[plan.choice.at(i)], knobs.size());
  }
  return out;
}

}  // namespace perseus::format
