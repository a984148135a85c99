// SPDX-License-Identifier: Apache-2.0
//
// The profile CSV (DESIGN section 6): what Zeus and its kin write, one measurement a row.
//
//   stage,instruction,frequency,time,energy
//   0,forward,1410,0.0312,9.71
//   PERSEUS_ASSIGN_OR_RETURN(auto parsed, parse_profile_csv(bytes, "p.csv"));
//   for (const core::Warning& w : parsed.warnings) ...
//
// Columns are found by name, in any order. Needed: `stage` (model stage, from 0), `instruction`, `frequency`
// (whole MHz), `time` (s), `energy` (J of one GPU). Known beside these: `rank`, `dp_rank`, `pp_rank`,
// `tp_rank` (who measured), `chunk` (virtual stage on its rank; must agree within a stage), `stage_b` (of
// `forward_backward`: the stage of the backward half), `samples` (measurements behind the row), `time_std`
// and `energy_std` (sample standard deviation of one run). Any other column is a knob: an opaque text that
// distinguishes options.
//
// Rows become options per (stage, instruction, stage_b, clock, knobs) in two steps:
// 1. Rows of one rank. With a `samples` column they are samples of one population: time and energy are the
// means
//    weighted by `samples`, the deviations are pooled (within rows and between them; absent if a row of
//    several samples does not tell its own). Without it, identical rows are folded and contradicting ones
//    refused.
// 2. Ranks. Time is the largest of the ranks' means, since the slowest rank ends the computation, with that
// rank's
//    deviation. Energy is the mean of the ranks' means; its deviation is that of a mean of independent ranks,
//    absent unless every rank has one. `samples` is the smallest of the ranks' counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/profile.h"
#include "perseus/core/result.h"

namespace perseus::format {

/// Largest profile: ten times 10,000 options for each of 64 stages' forward and backward at 20 bytes a row.
inline constexpr std::size_t kMaxProfileBytes = std::size_t{1} << 28;
/// Most measurements, some 400 MB of rows while they are read.
inline constexpr std::size_t kMaxProfileRows = std::size_t{1} << 22;
/// Most columns: the 14 known ones and 50 knobs; the richest known profiles (Kareus, context parallel) have
/// 13 knobs.
inline constexpr std::size_t kMaxProfileColumns = 64;
/// Longest field in bytes; known knob values have some 30.
inline constexpr std::size_t kMaxProfileFieldBytes = 4096;

/// How a profile is judged.
struct ProfileCsvOptions {
  /// A time that exceeds the time at some lower clock (same knobs) by more than this share is warned about:
  /// the GPU probably throttled. 2 % is well above the scatter of about 0.4 % between repeated measurements
  /// (assumed).
  double throttle_tolerance = 0.02;
  /// Warnings beyond this many are counted in one last warning (assumed: what a person still reads).
  std::size_t max_warnings = 50;
};

/// A profile with what is odd but usable about it: a measurement slower and hungrier than one at a lower
/// clock, a computation with fewer than 3 useful options (a one-row instruction with a name of its own is
/// taken as fixed-time on purpose), a time that rises with the clock.
struct ParsedProfile {
  core::Profile profile;
  std::vector<core::Warning> warnings;
};

/// Reads a profile. `source` is the path for messages. Errors, with line and column: kInvalidInput or kLimit.
/// Pure; thread-safe.
[[nodiscard]] core::Result<ParsedProfile> parse_profile_csv(std::string_view bytes, const std::string& source,
                                                            const ProfileCsvOptions& options = {});

/// The profile as CSV; parse_profile_csv() gives back the same profile. Optional columns appear where an
/// option needs them. The profile must keep the rules of core/profile.h: sorted, every option with a clock,
/// and no two options of an entry alike in clock and knobs.
[[nodiscard]] std::string write_profile_csv(const core::Profile& profile);

/// Refuses a profile with a stage outside 0 .. stages-1, where `stages` is pp * virtual_stages of the job.
[[nodiscard]] core::Status check_stages(const core::Profile& profile, std::uint32_t stages,
                                        const core::Origin& origin = {});

}  // namespace perseus::format
