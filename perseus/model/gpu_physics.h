// SPDX-License-Identifier: Apache-2.0
//
// Time and energy of work on a GPU at a clock (docs/model.md has the formulae): a roofline for each kernel,
// power = static + dynamic with a voltage that rises above a knee, and the power limit that the driver
// enforces.
//
//   const Cost c = run(gpu, /*tensor=*/8, work, core::Megahertz{1200});
//   c.energy / c.time;  // average watts
#pragma once

#include <span>
#include <vector>

#include "perseus/core/units.h"
#include "perseus/model/kernels.h"

namespace perseus::model {

/// What one computation takes on one GPU.
struct Cost {
  core::Seconds time;
  core::Joules energy;
};

/// Supply voltage over its floor: 1 up to the knee, then linear to `top_voltage` at the top clock.
[[nodiscard]] double relative_voltage(const GpuModel& gpu, core::Megahertz clock);

/// Dynamic power of fully loaded SMs: dynamic_per_mhz x clock x relative_voltage squared.
[[nodiscard]] core::Watts dynamic_power(const GpuModel& gpu, core::Megahertz clock);

/// The work at exactly this clock, whatever the power. `tensor`: width of the all-reduces' group.
[[nodiscard]] Cost run_unlimited(const GpuModel& gpu, std::uint32_t tensor, std::span<const Kernel> work,
                                 core::Megahertz clock);

/// The fastest supported clock, at most `requested`, at which the work's average power keeps the power limit;
/// the lowest supported one if none does. Models the driver's limiter, which sets the clock back in supported
/// steps.
[[nodiscard]] core::Megahertz held_clock(const GpuModel& gpu, std::uint32_t tensor,
                                         std::span<const Kernel> work, core::Megahertz requested);

/// The work with the clock set to `requested` under the power limit: run_unlimited() at held_clock().
[[nodiscard]] Cost run(const GpuModel& gpu, std::uint32_t tensor, std::span<const Kernel> work,
                       core::Megahertz requested);

/// The constants of the physics that are the same on every GPU, for the documentation.
[[nodiscard]] std::span<const Assumption> physics_assumptions();

}  // namespace perseus::model
