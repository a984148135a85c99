// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/clock_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace perseus::gpu {

std::vector<core::Megahertz> tidy_clocks(std::vector<core::Megahertz> clocks) {
  std::erase(clocks, core::Megahertz{});
  std::ranges::sort(clocks);
  const auto repeated = std::ranges::unique(clocks);
  clocks.erase(repeated.begin(), repeated.end());
  return clocks;
}

core::Status check_clock(std::span<const core::Megahertz> supported, core::Megahertz clock,
                         const Identity& device) {
  const auto above = std::ranges::lower_bound(supported, clock);
  if (above != supported.end() && *above == clock) return {};
  std::string nearest;
  if (supported.empty()) {
    nearest = "it offers none";
  } else if (above == supported.begin()) {
    nearest = fmt::format("the lowest is {} MHz", above->value());
  } else if (above == supported.end()) {
    nearest = fmt::format("the highest is {} MHz", supported.back().value());
  } else {
    nearest = fmt::format("the nearest are {} and {} MHz", (above - 1)->value(), above->value());
  }
  return core::fail(core::ErrorCode::kInvalidInput, fmt::format("{}: {} MHz is not one of its clocks; {}",
                                                                describe(device), clock.value(), nearest));
}

std::string describe(const Identity& device) {
  return fmt::format("GPU {} ({})", device.index, device.uuid);
}

}  // namespace perseus::gpu
