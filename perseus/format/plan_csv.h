// SPDX-License-Identifier: Apache-2.0
//
// A plan as a table for spreadsheets and scripts: one row per computation.
#pragma once

#include <string>

#include "perseus/core/plan.h"
#include "perseus/core/problem.h"

namespace perseus::format {

/// Columns rank,position,kind,stage,microbatch,clock_mhz,time_s,energy_j, then one per knob of the profile.
/// `position` counts from 0 on each rank; `energy_j` is per GPU; `clock_mhz` is empty for a computation that
/// does nothing. Where the schedule has overlapped pairs, stage_b and microbatch_b follow microbatch, empty
/// for others.
[[nodiscard]] std::string write_plan_csv(const core::Problem& problem, const core::Plan& plan);

}  // namespace perseus::format
