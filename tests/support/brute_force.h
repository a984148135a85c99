// SPDX-License-Identifier: Apache-2.0
//
// The true optimum over clocks by trying every assignment, for problems that are small enough.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "perseus/core/problem.h"

namespace perseus::tests {

/// One assignment that no other beats in both time and cost.
struct DiscretePoint {
  core::ExactTime time;  ///< exact makespan
  core::Joules cost;     ///< sum of effective costs, per GPU
  core::Choice choice;
};

/// Number of assignments, or nothing if more than `limit`.
[[nodiscard]] std::optional<std::uint64_t> assignment_count(const core::Problem& problem,
                                                            std::uint64_t limit);

/// The Pareto-optimal assignments by rising time (and falling cost). Tries all: check assignment_count()
/// first.
[[nodiscard]] std::vector<DiscretePoint> discrete_frontier(const core::Problem& problem);

/// The least energy of one pipeline (all its GPUs) over all assignments that end by `target`; blocking
/// counted to `sync`, or without it to the assignment's own end. Nothing if none ends by `target`.
[[nodiscard]] std::optional<core::Joules> least_energy(const core::Problem& problem,
                                                       const std::vector<DiscretePoint>& frontier,
                                                       core::Seconds target,
                                                       std::optional<core::Seconds> sync);

}  // namespace perseus::tests
