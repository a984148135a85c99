// SPDX-License-Identifier: Apache-2.0
//
// Measurement noise that does not depend on the standard library or on the order of the rows.
#pragma once

#include <cstdint>
#include <string_view>

#include "perseus/core/profile.h"
#include "perseus/core/units.h"

namespace perseus::model {

/// How noisy measurements are.
struct NoiseModel {
  double time_percent = 0;    ///< standard deviation of one measured time, per cent of it
  double energy_percent = 0;  ///< ... of one measured energy
  std::uint32_t samples = 1;  ///< measurements that are averaged, >= 1
  std::uint64_t seed = 1;
};

/// Replaces the option's true time and energy by the mean of `samples` noisy ones (normal, at most four
/// standard deviations off); with two or more samples fills `samples`, `time_std` and `energy_std` as a
/// profiler would. The draws depend on seed, stage, instruction and clock alone. Without noise and with one
/// sample nothing changes.
void add_noise(const NoiseModel& noise, std::uint32_t stage, std::string_view instruction,
               core::Option& option);

}  // namespace perseus::model
