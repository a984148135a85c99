// SPDX-License-Identifier: Apache-2.0
//
// From a product of the GPU zoo to the numbers that the simulated driver runs on.
#pragma once

#include <span>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/model/figure.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/simgpu/spec.h"

namespace perseus::cli {

/// What the driver says of a product and the model does not know. Figures carry their sources.
struct DriverFacts {
  std::string_view gpu;          ///< name in the zoo
  std::string_view driver_name;  ///< nvmlDeviceGetName
  std::uint32_t pci_device_id = 0;
  std::uint32_t architecture = 0, capability_major = 0, capability_minor = 0;
  bool power_usage_is_average =
      false;  ///< NVML reference, nvmlDeviceGetPowerUsage: all from Ampere on but GA100
  model::Figure memory_bytes;
  model::Figure memory_clock;        ///< MHz
  model::Figure least_power_limit;   ///< W
  model::Figure thermal_resistance;  ///< K/W
  model::Figure latency_median;      ///< s
  model::Figure latency_most;        ///< s
};

/// All rows, in the order of the zoo.
[[nodiscard]] std::span<const DriverFacts> driver_facts();

/// The simulated form of a product: its clocks, dynamic and static power from the zoo, the rest from
/// driver_facts() and the defaults of simgpu::GpuSpec. kUnsupported for a product without driver facts.
[[nodiscard]] core::Result<simgpu::GpuSpec> simulated_gpu(const model::GpuModel& gpu);

}  // namespace perseus::cli
