// SPDX-License-Identifier: Apache-2.0
//
// What it means to run a group of computations "at one clock": which options that selects.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/units.h"

namespace perseus::baseline {

/// One setting of a group of option sets.
struct Level {
  core::Megahertz clock;
  std::vector<std::uint32_t> options;  ///< parallel to the group's sets
  core::Seconds time;                  ///< the group's busy time in one iteration
  core::Joules cost;                   ///< the group's effective cost in one iteration, per GPU
};

/// Counts and effective costs of a problem's option sets.
struct SetTable {
  explicit SetTable(const core::Problem& problem);

  std::vector<std::uint32_t> count;             ///< computations with these options
  std::vector<std::uint32_t> stage;             ///< stage of these computations (FB: of the forward)
  std::vector<std::vector<core::Joules>> cost;  ///< effective cost of each option, per GPU
};

/// The levels of a group of sets, for each clock that all of its sets with more than one option have, fastest
/// clock first: the cheapest options of the clock, then, if they differ, the fastest ones. A group of fixed
/// computations has one level, with clock 0.
[[nodiscard]] std::vector<Level> clock_levels(const core::Problem& problem, const SetTable& table,
                                              std::span<const std::uint32_t> sets);

}  // namespace perseus::baseline
