// SPDX-License-Identifier: Apache-2.0
//
// The one place where a vendor's numbers become quantities. NVML speaks milliwatts, millijoules and per cent;
// AMD SMI
// speaks microwatts, microjoules per tick, hertz and per cent. No other file of this room has such a factor
// (vendor_units_test.cc looks).
#pragma once

#include <cstdint>

#include "perseus/core/units.h"

namespace perseus::gpu {

/// nvmlDeviceGetPowerUsage, nvmlDeviceGetEnforcedPowerLimit, NVML_FI_DEV_POWER_*: mW (nvml.h).
[[nodiscard]] constexpr core::Watts from_milliwatts(std::uint64_t milliwatts) {
  return core::Watts(static_cast<double>(milliwatts) * 1e-3);
}
/// nvmlDeviceGetTotalEnergyConsumption: mJ (nvml.h). Exact to 2^53 mJ, 285 years at 1 kW.
[[nodiscard]] constexpr core::Joules from_millijoules(std::uint64_t millijoules) {
  return core::Joules(static_cast<double>(millijoules) * 1e-3);
}
/// amdsmi_get_power_cap_info: documented in uW (amdsmi.h), yet whole watts on the path over libdrm of some
/// releases (its source): no GPU is capped below 0.1 W, and none above 100 kW, which tells the two apart.
[[nodiscard]] constexpr core::Watts from_amd_power_cap(std::uint64_t cap) {
  return core::Watts(static_cast<double>(cap) * (cap < 100'000 ? 1 : 1e-6));
}
/// amdsmi_get_temp_metric: documented in millidegrees (amdsmi.h), yet its source divides by a thousand.
/// Nothing that runs is hotter than 1000 degrees or colder than a degree, which tells the two apart.
[[nodiscard]] constexpr core::Celsius from_amd_temperature(std::int64_t value) {
  return core::Celsius(static_cast<double>(value) * (value < 1000 ? 1 : 1e-3));
}
/// amdsmi_get_clk_freq: Hz (amdsmi.h), rounded to the nearest MHz.
[[nodiscard]] constexpr core::Megahertz from_hertz(std::uint64_t hertz) {
  constexpr std::uint64_t kHertz = 1'000'000;
  const std::uint64_t mhz = hertz / kHertz + (hertz % kHertz >= kHertz / 2 ? 1 : 0);
  return core::Megahertz(static_cast<std::uint32_t>(mhz < 0xFFFF'FFFF ? mhz : 0xFFFF'FFFF));
}
/// amdsmi_get_energy_count: accumulator times resolution in uJ (amdsmi.h).
[[nodiscard]] constexpr core::Joules from_microjoules(double microjoules) {
  return core::Joules(microjoules * 1e-6);
}
/// A share of a whole, 0 to 1, from 0 to 100 per cent.
[[nodiscard]] constexpr double from_percent(std::uint32_t percent) {
  return static_cast<double>(percent) * 1e-2;
}

}  // namespace perseus::gpu
