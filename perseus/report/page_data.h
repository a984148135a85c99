// SPDX-License-Identifier: Apache-2.0
//
// The data of report.html: one JSON object, read by page/model.js, which documents its fields as types.
#pragma once

#include <string>
#include <vector>

#include "perseus/report/report.h"

namespace perseus::report {

/// Which points carry their plan: all, or evenly chosen ones (first and last always) where `limit` option
/// indices would not do for all. Rising indices into `points`, at least one.
[[nodiscard]] std::vector<std::size_t> points_with_plans(std::size_t points, std::size_t computations,
                                                         std::size_t limit = kMaxPlanEntries);

/// The data of the page, safe inside a script element. `inputs` must have passed check_inputs.
[[nodiscard]] std::string page_data(const ReportInputs& inputs);

}  // namespace perseus::report
