// SPDX-License-Identifier: Apache-2.0
//
// What was measured: for each (stage, instruction) all ways to run it. Time and energy are per GPU.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::core {

/// Bounds that every measured number must keep; the exact arithmetic of core/exact_time.h rests on the times.
inline constexpr Seconds kMinTime{1e-9};  ///< shortest time that a profile may state
inline constexpr Seconds kMaxTime{1e6};   ///< longest
inline constexpr Joules kMaxEnergy{1e9};  ///< most energy of one computation on one GPU
inline constexpr Watts kMaxPower{1e6};    ///< most blocking power of one GPU
inline constexpr std::uint32_t kMaxClockMhz = 100'000;
inline constexpr std::size_t kMaxComputations = std::size_t{1} << 24;

/// One measured way to run a computation.
struct Option {
  std::optional<Megahertz>
      clock;      ///< absent only for a computation that does nothing (the empty `I` of stage 0)
  Seconds time;   ///< mean time of one run; 0 only for the empty `I`
  Joules energy;  ///< mean energy of one run on one GPU, >= 0
  std::vector<std::string> knobs;    ///< opaque values, parallel to Profile::knob_names
  std::uint32_t samples = 1;         ///< measurements behind the means, >= 1
  std::optional<Seconds> time_std;   ///< sample standard deviation of one run's time, where it is known
  std::optional<Joules> energy_std;  ///< sample standard deviation of one run's energy, where it is known
};

/// All options of one (stage, instruction), sorted by falling clock, then by rising time.
struct ProfileEntry {
  std::uint32_t stage = 0;
  std::string instruction;               ///< canonical, e.g. "backward_input", or any other name
  std::optional<std::uint32_t> stage_b;  ///< "forward_backward" only
  std::vector<Option> options;           ///< never empty in a valid profile
};

/// A whole profile. A plain value.
struct Profile {
  std::vector<std::string> knob_names;
  std::vector<ProfileEntry> entries;  ///< sorted by (stage, instruction, stage_b), no two alike

  /// The entry of that key, or nullptr. O(log entries).
  [[nodiscard]] const ProfileEntry* find(std::uint32_t stage, std::string_view instruction,
                                         std::optional<std::uint32_t> stage_b = std::nullopt) const;
};

}  // namespace perseus::core
