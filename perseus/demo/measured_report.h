// SPDX-License-Identifier: Apache-2.0
//
// The report over the profile that the demo's job measured, in simulated seconds.
//
//   PERSEUS_RETURN_IF_ERROR(write_measured_report(site, options, "demo", result));  // result.report names it
#pragma once

#include <string>

#include "perseus/core/profile.h"
#include "perseus/core/result.h"
#include "perseus/demo/demo.h"

namespace perseus::demo {

/// Ranks measure real seconds; the simulated GPU's own are `time_scale` times as many.
[[nodiscard]] core::Profile to_simulated_time(core::Profile profile, double time_scale);

/// Asks the server for the profile, writes it as profile.csv into the site's folder, and lets `perseus
/// report` make the page. Nothing if neither a report nor a folder to keep was asked for. kIo with the end of
/// a log.
core::Status write_measured_report(Site& site, const DemoOptions& options, const std::string& job,
                                   DemoResult& result);

}  // namespace perseus::demo
