// SPDX-License-Identifier: Apache-2.0
//
// From energy counters to the power of each computation: joint least squares over all windows and GPUs of a
// pipeline rank, with what can be said about its trust. Pure.
//
//   EnergySums top = ..., low = ...;               // one per setting of the clocks, GPUs and windows added
//   up accumulate(top, more); PERSEUS_ASSIGN_OR_RETURN(const EnergyFit fit, fit_powers({{top, low}}));
//   fit.find({false, Kind::kForward, 0, Megahertz(1410)})->power;
//
// Each interval between two updates of a counter is one equation: joules = sum of (seconds of a computation
// in it) x (its power) + (seconds of waiting) x (blocking power). A computation at one clock is one unknown
// in all settings; waiting is one unknown for each setting, since a waiting GPU draws what its clock makes it
// draw.
//
// Whole iterations always hold every computation equally often, so where intervals do not cut iterations at
// different places, the equations tell sums only. Then a weak prior decides what they leave open:
// computations at one clock draw alike (kPriorSpread). It weighs nothing against data that tell, and its own
// uncertainty is part of the standard errors.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/server/messages.h"

namespace perseus::server {

/// Adds `more` to `into`; columns that it lacks are added.
void accumulate(EnergySums& into, const EnergySums& more);

/// Spread of the power of computations at one clock about their mean, and of the blocking power about a
/// quarter of it: standard deviation as a share. Assumed: forward and backward of measured transformers
/// differ by less (examples/), blocking power is 0.21 of the power limit on A100 (docs/model_constants.md).
inline constexpr double kPriorSpread = 0.3;
inline constexpr double kPriorBlocking = 0.25;
/// Above this condition number of a setting's equations (columns scaled to equal length) its computations
/// are taken as not told apart: an error of the data may come out more than thirty times as large. Assumed.
inline constexpr double kMostCondition = 1000;
/// Half the width of a 95 % confidence interval in standard errors (normal: intervals are many).
inline constexpr double kConfidence95 = 1.96;

struct EnergyFit {
  struct Unknown {
    EnergyColumn column;
    std::uint32_t setting = 0;  ///< of an idle one: the setting in which the GPU waits
    core::Watts power;
    core::Watts std_error;
  };
  std::vector<Unknown> unknowns;
  std::vector<double> covariance;  ///< of the powers, W^2, row by row
  std::vector<double> condition;   ///< per setting, of its own equations; infinite: one has no time
  std::uint64_t intervals = 0;
  double inflation = 1;       ///< by which spread() has raised the standard errors
  core::Joules interval_std;  ///< what the equations of one interval leave unexplained

  [[nodiscard]] const Unknown* find(const EnergyColumn& column) const;
  /// Blocking power in a setting, or nothing if no time was spent waiting.
  [[nodiscard]] const Unknown* idle(std::uint32_t setting) const;
  /// Standard error of a sum of (unknown, seconds): of an energy.
  [[nodiscard]] core::Joules std_error(std::span<const std::pair<const Unknown*, core::Seconds>> sum) const;
};

/// Raises the standard errors of `joint` to what its GPUs, fitted one by one, disagree among themselves;
/// never lowers them. Neighbouring intervals share an edge, so their errors are no strangers, and GPUs
/// differ. With fewer than two fits to compare by kLoneInflation.
void spread(EnergyFit& joint, std::span<const EnergyFit> gpus);
/// GPUs of a simulated stage disagree by 1.0 to 1.2 times the least-squares error (test_ranks.h); real ones
/// by more. Assumed.
inline constexpr double kLoneInflation = 1.5;

/// Solves for the powers. kInvalidInput: fewer intervals than unknowns, sums that no intervals can have, or
/// powers outside 0 to core::kMaxPower.
[[nodiscard]] core::Result<EnergyFit> fit_powers(std::span<const EnergySums> settings);

}  // namespace perseus::server
