// SPDX-License-Identifier: Apache-2.0
//
// Puts the extra instructions of a job (data loading, a collective) into a schedule.
//
//   const core::Insert load{"dataload", 0, core::Position::kBeforeForward};
//   PERSEUS_ASSIGN_OR_RETURN(schedule, apply_inserts(std::move(schedule), {&load, 1}));
#pragma once

#include <span>

#include "perseus/core/job.h"
#include "perseus/core/result.h"
#include "perseus/core/schedule.h"

namespace perseus::schedule {

/// The schedule with a kOther computation wherever `inserts` asks for one, at the places that core::Position
/// describes. The halves of an FB count as a forward of its first and a backward of its second stage, with
/// nothing between them: "after the forward" is behind the whole FB, "before the backward" ahead of it. On
/// stage 0 a W without an I starts the backward. Several inserts at one place come in the order of `inserts`
/// (kStart and kEnd of several stages on one rank: stage by stage). A kOther carries the microbatch of the
/// computation beside it, 0 for kStart and kEnd.
///
/// Refused: a name that core::fits_cell rejects, a stage that no rank has (ErrorCode::kInvalidInput), more
/// than core::kMaxComputations afterwards (ErrorCode::kLimit). The same instruction twice on one stage and
/// microbatch is left to core::Pipeline::build, which names it.
[[nodiscard]] core::Result<core::Schedule> apply_inserts(core::Schedule schedule,
                                                         std::span<const core::Insert> inserts);

}  // namespace perseus::schedule
