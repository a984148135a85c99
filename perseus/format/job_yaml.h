// SPDX-License-Identifier: Apache-2.0
//
// The job file (DESIGN section 6; schema/job.schema.json). Every key is also a flag of the command line.
//
//   profile: gpt3-175b-a100.csv
//   pipeline: {schedule: 1f1b, microbatches: 128, virtual_stages: 1}   # or schedule_file; group_size
//   parallel: {pipeline: 8, tensor: 8, data: 16}
//   blocking_power_w: 85                 # or one for each rank: {0: 85, 1: 92, ...}
//   p2p_lag_s: 0.0                       # or by ranks: {default: 0.0, "0->1": 2.0e-3}
//   inserts:                             # extra instructions of the profile
//     - {instruction: load, stage: 0, position: before_forward}
//   fit: none                            # or convex
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "perseus/core/job.h"
#include "perseus/core/result.h"

namespace perseus::format {

/// Largest job file: ten times what blocking power and lags of 1,024 ranks take.
inline constexpr std::size_t kMaxJobBytes = std::size_t{1} << 18;
/// Most inserts: every instruction at every stage of a large pipeline (assumed).
inline constexpr std::size_t kMaxInserts = 4096;

/// Reads a job file. All keys are optional here: flags may give the rest. Refused with line and column
/// (kInvalidInput, kLimit): unknown and repeated keys, values of another type or out of range, a schedule
/// beside a schedule file, a map of blocking power with gaps. A number in quotes is a text. Paths are kept as
/// written. Pure; thread-safe.
[[nodiscard]] core::Result<core::JobSpec> parse_job_yaml(std::string_view bytes, const std::string& source);

/// The job as a file that parse_job_yaml() reads back to the same JobSpec (if the spec keeps its rules).
[[nodiscard]] std::string write_job_yaml(const core::JobSpec& job);

/// "before_forward", ...: the word of the job file.
[[nodiscard]] std::string_view position_name(core::Position position);

}  // namespace perseus::format
