// SPDX-License-Identifier: Apache-2.0
//
// Inside of profile_csv: the rows as they stand in the file, and what is made of them. Not for other rooms.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "perseus/core/profile.h"
#include "perseus/core/result.h"

namespace perseus::format {

/// One measurement; every number is validated.
struct ProfileRow {
  std::uint32_t stage = 0;
  std::string instruction;
  std::optional<std::uint32_t> stage_b;
  std::uint32_t clock_mhz = 0;
  std::vector<std::string> knobs;
  std::array<std::optional<std::uint32_t>, 4> rank;  ///< rank, dp_rank, pp_rank, tp_rank as far as given
  std::optional<std::uint32_t> chunk;
  double time = 0;    ///< s
  double energy = 0;  ///< J
  std::uint32_t samples = 1;
  std::optional<double> time_std;
  std::optional<double> energy_std;
  std::uint64_t line = 0;

  /// What an entry of the profile collects.
  [[nodiscard]] auto entry_key() const { return std::tie(stage, instruction, stage_b); }
  /// What an option collects.
  [[nodiscard]] auto option_key() const { return std::tie(stage, instruction, stage_b, clock_mhz, knobs); }
  /// What was measured; equal rows with equal keys are the same measurement.
  [[nodiscard]] auto values() const { return std::tie(time, energy, samples, time_std, energy_std); }
};

/// A whole file.
struct ProfileTable {
  std::vector<std::string> knob_names;
  bool has_samples = false;
  std::vector<ProfileRow> rows;  ///< in the order of the file
};

/// A profile with the line that each option was first seen in: lines[entry][option].
struct LinedProfile {
  core::Profile profile;
  std::vector<std::vector<std::uint64_t>> lines;
};

/// Reads and validates every field.
core::Result<ProfileTable> read_profile_table(std::string_view bytes, const std::string& source);

/// Folds rows into options as profile_csv.h describes.
core::Result<LinedProfile> aggregate(ProfileTable table, const std::string& source);

/// Everything odd about a profile, in its order.
std::vector<core::Warning> profile_warnings(const LinedProfile& lined, const std::string& source,
                                            double throttle_tolerance);

}  // namespace perseus::format
