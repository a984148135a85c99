// SPDX-License-Identifier: Apache-2.0
//
// The profile half of random_problem.h; not for tests to include.
#pragma once

#include "perseus/core/profile.h"
#include "perseus/core/schedule.h"
#include "tests/support/random_problem.h"

namespace perseus::tests {

/// Rows for everything that `schedule` runs, valid as the CSV reader would give them.
[[nodiscard]] core::Profile make_profile(const ProblemRecipe& recipe, const core::Schedule& schedule);

}  // namespace perseus::tests
