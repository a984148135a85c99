// SPDX-License-Identifier: Apache-2.0
//
// The one place where a vendor's numbers become quantities. NVML speaks milliwatts, millijoules and per cent;
// AMD SMI speaks microwatts, microjoules per tick and per cent. No other file of this room has such a factor
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
/// amdsmi_get_power_cap_info: uW (amdsmi.h).
[[nodiscard]] constexpr core::Watts from_microwatts(std::uint64_t microwatts) {
  return core::Watts(static_cast<double>(microwatts) * 1e-6);
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
