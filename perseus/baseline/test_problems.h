// SPDX-License-Identifier: Apache-2.0
//
// Small problems for this room's tests, with numbers that are easy to add by hand.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/schedule/generate.h"

namespace perseus::baseline {

/// One option: clock (MHz), time (s), energy (J).
struct Row {
  std::uint32_t clock;
  double time;
  double energy;
};

inline core::ProfileEntry entry(std::uint32_t stage, std::string instruction, const std::vector<Row>& rows) {
  core::ProfileEntry result;
  result.stage = stage;
  result.instruction = std::move(instruction);
  for (const Row& row : rows) {
    core::Option option;
    option.clock = core::Megahertz(row.clock);
    option.time = core::Seconds(row.time);
    option.energy = core::Joules(row.energy);
    result.options.push_back(option);
  }
  return result;
}

/// A 1F1B problem of one stage per rank whose profile is `entries` (sorted by stage and instruction).
inline core::Problem problem(std::uint32_t pipeline, std::uint32_t microbatches,
                             std::vector<core::ProfileEntry> entries, double blocking_w,
                             std::uint32_t tensor = 1) {
  auto schedule = schedule::generate({.name = "1f1b", .pipeline = pipeline, .microbatches = microbatches});
  core::ProblemInputs inputs;
  inputs.profile.entries = std::move(entries);
  inputs.blocking_power.assign(pipeline, core::Watts(blocking_w));
  inputs.parallel.tensor = tensor;
  return core::Problem::build(core::Pipeline::build(std::move(schedule).value()).value(), std::move(inputs))
      .value();
}

}  // namespace perseus::baseline
