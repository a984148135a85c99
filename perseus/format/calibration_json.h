// SPDX-License-Identifier: Apache-2.0
//
// What `perseus calibrate` found out about one GPU, as JSON (schema/calibration.schema.json).
//
//   PERSEUS_ASSIGN_OR_RETURN(const Calibration calibration, parse_calibration_json(bytes, "gpu0.json"));
//   for (const SwitchTarget& target : calibration.targets) ...;   // median, 95th percentile, longest
//
// Every figure of it was measured on that device; the file says when and under which load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::format {

/// How long switches took, from the request to the first reading of the new clock that stayed.
struct SwitchLatency {
  core::Seconds median;
  core::Seconds p95;  ///< nearest rank
  core::Seconds longest;
  friend bool operator==(const SwitchLatency&, const SwitchLatency&) = default;
};

/// All switches to one clock.
struct SwitchTarget {
  core::Megahertz clock;
  std::uint32_t samples = 0;             ///< switches that count
  std::uint32_t unsettled = 0;           ///< the clock was not reached within the time limit
  std::uint32_t throttled = 0;           ///< dropped: heat or power held the clock meanwhile
  std::optional<SwitchLatency> latency;  ///< absent without samples
  friend bool operator==(const SwitchTarget&, const SwitchTarget&) = default;
};

/// All switches from one clock to another.
struct SwitchPair {
  core::Megahertz from;
  core::Megahertz to;
  std::uint32_t samples = 0;  ///< at least 1
  SwitchLatency latency;
  friend bool operator==(const SwitchPair&, const SwitchPair&) = default;
};

/// How often a reading of the device changes.
struct ReadingPeriod {
  core::Seconds median;
  core::Seconds longest;
  core::Seconds resolution;  ///< mean distance of the looks
  std::uint32_t updates = 0;
  friend bool operator==(const ReadingPeriod&, const ReadingPeriod&) = default;
};

/// One GPU, one run.
struct Calibration {
  std::string uuid;
  std::string name;
  std::string backend;  ///< "nvml", ...
  std::string driver_version;
  std::string measured_at;     ///< UTC, "2026-11-24T09:30:00Z"
  std::string load;            ///< what kept the GPU busy, for a person
  core::Seconds resolution;    ///< mean distance of two looks at the clock
  bool energy_counter = true;  ///< false: energy is integrated power
  std::optional<ReadingPeriod> energy_period;
  std::optional<ReadingPeriod> power_period;
  std::vector<SwitchTarget> targets;  ///< ascending by clock, each clock once
  std::vector<SwitchPair> pairs;      ///< ascending by (from, to), each pair once
  friend bool operator==(const Calibration&, const Calibration&) = default;
};

inline constexpr std::size_t kMaxCalibrationBytes = 16U
                                                    << 20U;  ///< 200 clocks have 40,000 pairs of 160 bytes
inline constexpr std::size_t kMaxCalibrationTargets = 1024;  ///< products offer up to some 200 clocks
inline constexpr std::size_t kMaxCalibrationPairs = 65'536;
/// No switch and no update takes longer than an hour.
inline constexpr core::Seconds kMaxCalibrationTime{3600};

/// Ends with a newline. Strings must be valid UTF-8.
[[nodiscard]] std::string write_calibration_json(const Calibration& calibration);

/// Strict: every member known and present, numbers within their ranges, lists in order. kInvalidInput or
/// kLimit with line and column.
[[nodiscard]] core::Result<Calibration> parse_calibration_json(std::string_view bytes, std::string source);

}  // namespace perseus::format
