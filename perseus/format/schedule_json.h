// SPDX-License-Identifier: Apache-2.0
//
// A schedule as JSON: `perseus schedule --format json`.
#pragma once

#include <string>

#include "perseus/core/schedule.h"

namespace perseus::format {

/// `{"name":...,"pp":P,"virtual_stages":V,"microbatches":M,"ranks":[["0F0",...],...]}` with cells as in the
/// CSV form (schedule_csv.h), one rank per line, and a last newline. Pure; thread-safe.
[[nodiscard]] std::string write_schedule_json(const core::Schedule& schedule);

}  // namespace perseus::format
