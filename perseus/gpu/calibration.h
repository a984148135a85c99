// SPDX-License-Identifier: Apache-2.0
//
// Measures how long a GPU takes to follow a clock, for each target clock, and how often its readings change.
// The latency depends on the device and on the target (LATEST, arXiv 2502.20075), so it is measured on site
// and never assumed.
//
//   CalibrationPlan plan{.targets = spread_targets(clocks, 6)};
//   PERSEUS_ASSIGN_OR_RETURN(auto calibration, calibrate(device, setter, steady_time(), plan));
//
// The GPU must be busy all the while: an idle one lowers its clock whatever is locked. Who sets the clock,
// and brings it back whatever happens, is the caller's business (a lease).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/format/calibration_json.h"
#include "perseus/gpu/counter_period.h"
#include "perseus/gpu/device.h"
#include "perseus/gpu/time_source.h"

namespace perseus::gpu {

/// Sets the clock of the device under test; returns when the driver has said yes.
using SetClock = std::function<core::Status(core::Megahertz)>;
/// Told from 0 to 1 how far it is.
using CalibrationProgress = std::function<void(double)>;

struct CalibrationPlan {
  std::vector<core::Megahertz> targets;  ///< supported clocks, ascending; at least 2
  std::uint32_t tries = 5;               ///< of every ordered pair of targets
  core::Seconds poll{0.0002};  ///< between two looks at the clock: a tenth of the fastest switch seen
  core::Seconds hold{
      0.005};  ///< a clock that stays for so long has settled: some looks of any driver. Assumed
  core::Seconds time_limit{1};  ///< for one switch; ten times the slowest one published (LATEST). Assumed
  core::Seconds pause{0.05};    ///< at most between two switches, at random, against aliasing with the driver
  core::Seconds load_limit{5};  ///< to wait for the GPU to be busy
  std::uint64_t seed = 1;       ///< of the order and the pauses
  PeriodOptions periods;
};

/// `count` of the clocks with the lowest and the highest and even distances in between; all of them if there
/// are not more. `clocks` ascending, `count` at least 2.
[[nodiscard]] std::vector<core::Megahertz> spread_targets(std::span<const core::Megahertz> clocks,
                                                          std::size_t count);

/// Measures; takes about targets^2 x tries x 0.1 s. What depends on neither device nor clock (measured_at,
/// load, backend, driver_version) is left to the caller. kInvalidInput: fewer than two targets, or the GPU is
/// idle; otherwise the errors of the device and of `set`.
[[nodiscard]] core::Result<format::Calibration> calibrate(Device& device, const SetClock& set,
                                                          TimeSource& time, const CalibrationPlan& plan,
                                                          const CalibrationProgress& progress = {});

}  // namespace perseus::gpu
