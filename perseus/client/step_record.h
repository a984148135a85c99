// SPDX-License-Identifier: Apache-2.0
//
// What the hooks write down for the native thread: one record at a step's begin and end, and one for each
// computation that has ended.
#pragma once

#include <cstdint>

#include "perseus/client/plan_table.h"
#include "perseus/core/schedule.h"

namespace perseus::client {

/// Times are nanoseconds of the machine's monotonic clock. One cache line.
struct StepRecord {
  enum class Type : std::uint8_t { kStepBegin, kOperation, kStepEnd };
  Type type = Type::kStepBegin;
  core::Kind kind = core::Kind::kForward;  ///< of an operation
  /// End of a step: it ran as its plan says from begin to end; what is not clean is not measured.
  bool clean = true;
  std::uint32_t stage = 0;
  std::uint32_t slot = PlanTable::kNone;  ///< PlanTable::Hit::slot
  std::uint32_t mhz = 0;                  ///< of an operation: the clock that was asked for; 0: the baseline
  std::uint32_t unknown = 0;              ///< end of a step: computations that the plan does not have
  std::uint32_t missing = 0;              ///< end of a step: computations that did not happen
  std::uint64_t step = 0;
  std::uint64_t begin_ns = 0;
  std::uint64_t end_ns = 0;
  /// The plan that the step runs under; nullptr: none. Alive as long as the record waits.
  const PlanTable* table = nullptr;
};
static_assert(sizeof(StepRecord) <= 64);

}  // namespace perseus::client
