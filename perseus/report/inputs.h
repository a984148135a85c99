// SPDX-License-Identifier: Apache-2.0
//
// Checks and small derivations that all outputs of the report share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/report/report.h"

namespace perseus::report {

/// kInvalidInput if there is no point, points are out of order, a choice does not fit the problem, or a
/// number is not finite.
core::Status check_inputs(const ReportInputs& inputs);
/// As check_inputs, and that `point` exists.
core::Status check_inputs(const ReportInputs& inputs, std::size_t point);

/// All-max as a baseline, computed from its choice.
[[nodiscard]] ReportBaseline all_max_baseline(const ReportInputs& inputs);
/// "predicted", "simulated" or "measured".
[[nodiscard]] std::string_view name(Evidence evidence);
/// The name of what a computation does: the profile's instruction name, or that of the extra instruction.
[[nodiscard]] std::string instruction(const core::Schedule& schedule, const core::Computation& computation);
/// Average draw of an option; 0 W for one that takes no time.
[[nodiscard]] core::Watts power(const core::Option& option);

}  // namespace perseus::report
