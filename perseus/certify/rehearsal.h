// SPDX-License-Identifier: Apache-2.0
//
// The iteration, run through on paper: each rank works through its list and waits for what the other stages
// send. It reads the schedule itself, not the edges of core::Pipeline, so that a wrong edge there is noticed
// here.
#pragma once

#include <functional>
#include <vector>

#include "perseus/core/problem.h"
#include "perseus/core/result.h"

namespace perseus::certify {

/// What a rehearsal found; all exact.
struct Rehearsal {
  core::ExactTime end;                ///< when the last computation ends: the makespan
  std::vector<core::ExactTime> busy;  ///< per rank, the sum of its computations' times
};

/// Runs the iteration once, with everything as early as possible. `time_of(i)` is the time of computation i.
/// O(computations). kInternal if ranks wait for each other for ever, which Pipeline::build rules out.
[[nodiscard]] core::Result<Rehearsal> rehearse(
    const core::Problem& problem, const std::function<core::Seconds(core::ComputationId)>& time_of);

/// Lag of a transfer from one rank to another: 0 on the same rank.
[[nodiscard]] core::Seconds transfer_lag(const core::Problem& problem, std::uint32_t from_rank,
                                         std::uint32_t to_rank);

}  // namespace perseus::certify
