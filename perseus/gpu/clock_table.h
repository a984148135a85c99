// SPDX-License-Identifier: Apache-2.0
//
// The clocks that a device offers, and the refusal of every other one. All backends share it, so that a clock
// is refused in the same words everywhere.
//
//   PERSEUS_RETURN_IF_ERROR(check_clock(clocks, Megahertz{907}, identity));
//   // GPU 0 (GPU-...): 907 MHz is not one of its clocks; the nearest are 900 and 915 MHz
#pragma once

#include <span>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"

namespace perseus::gpu {

/// Ascending and without repetition; 0 MHz, which no clock has, is left out.
[[nodiscard]] std::vector<core::Megahertz> tidy_clocks(std::vector<core::Megahertz> clocks);

/// kInvalidInput unless `clock` is in `supported` (ascending), naming the nearest one or two.
[[nodiscard]] core::Status check_clock(std::span<const core::Megahertz> supported, core::Megahertz clock,
                                       const Identity& device);

/// "GPU 3 (GPU-5c3b...)": how messages name a device.
[[nodiscard]] std::string describe(const Identity& device);

}  // namespace perseus::gpu
