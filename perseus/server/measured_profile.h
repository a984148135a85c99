// SPDX-License-Identifier: Apache-2.0
//
// From what a sweep has measured to a profile that can be planned from, with the trust of each figure. Pure.
//
//   PERSEUS_ASSIGN_OR_RETURN(const MeasuredProfile profile, measure_profile(schedule, sweep.data()));
//   ... profile.csv, profile.facts.blocking ...
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"
#include "perseus/server/sweep.h"

namespace perseus::server {

/// Power of a waiting GPU as a straight line over its clock. What a waiting GPU draws beside its leakage is
/// its static power and what spinning kernels switch: both rise little and steadily within the clocks of a
/// sweep.
struct BlockingPower {
  core::Watts base;        ///< at `clock`
  core::Megahertz clock;   ///< mean of the clocks that it was measured at
  double per_mhz_w = 0;    ///< slope
  core::Watts half_width;  ///< of the 95 % confidence interval of `base`
  [[nodiscard]] core::Watts at(double mhz) const;
  friend bool operator==(const BlockingPower&, const BlockingPower&) = default;
};

/// How far the energies of one pipeline rank can be trusted.
struct RankTrust {
  double condition = 0;         ///< largest of its settings' equations
  std::uint64_t intervals = 0;  ///< of energy counters, all GPUs and windows
  bool told_apart = true;       ///< false: only the sums over its works are known, see docs/server.md
  double worst_share = 0;  ///< largest half width of a 95 % interval over its energy, one work at one clock
  double worst_sum_share = 0;  ///< the same of the sum over all works at one clock
  friend bool operator==(const RankTrust&, const RankTrust&) = default;
};

/// What a measured profile says beside its rows.
struct MeasuredFacts {
  std::vector<BlockingPower> blocking;  ///< per pipeline rank
  std::vector<RankTrust> trust;         ///< per pipeline rank
  std::vector<std::string> notes;       ///< what was left out and why
  friend bool operator==(const MeasuredFacts&, const MeasuredFacts&) = default;
};

struct MeasuredProfile {
  std::string csv;
  MeasuredFacts facts;
};

/// A half width of the 95 % interval up to this share of the energy counts as told apart. Assumed: the
/// differences between clocks that a plan lives on are larger.
inline constexpr double kToldApart = 0.05;
/// GPUs of one pipeline rank that take longer than the others by more than this share are stragglers, not
/// what the stage needs: they are left out and reported. Assumed.
inline constexpr double kStragglingReplica = 0.05;

/// kInvalidInput: nothing was measured of some computation, or the energies make no sense.
[[nodiscard]] core::Result<MeasuredProfile> measure_profile(const core::Schedule& schedule,
                                                            const std::vector<RankData>& data);

/// JSON of the facts, and back (kInvalidInput for anything that the former did not write).
[[nodiscard]] std::string write_facts(const MeasuredFacts& facts);
[[nodiscard]] core::Result<MeasuredFacts> parse_facts(std::string_view text);

}  // namespace perseus::server
