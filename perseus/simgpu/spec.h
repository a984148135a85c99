// SPDX-License-Identifier: Apache-2.0
//
// What a simulated machine is made of: numbers only. Where the numbers of a product come from is the business
// of whoever fills this in (`perseus sim create` takes them from perseus/model; docs/simulated_gpu.md lists
// them).
//
//   NodeSpec spec;
//   spec.gpus.assign(8, gpu_spec);
//   spec.seed = 7;
//   PERSEUS_ASSIGN_OR_RETURN(auto node, Node::create("/dev/shm/my-node", spec));
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::simgpu {

/// One supported graphics clock and what fully loaded SMs draw at it.
struct ClockSpec {
  core::Megahertz clock;
  core::Watts dynamic_power;  ///< of fully loaded SMs, on top of the static power
  core::Watts static_power;   ///< whatever the load, at the reference temperature
};

/// How hot the chip gets: one thermal mass. dT/dt = (ambient + resistance P - T) / time_constant.
struct ThermalSpec {
  core::Celsius ambient{30};        ///< of the cooling air or water. Assumed
  double resistance_k_per_w = 0.1;  ///< kelvin above ambient for each watt, in balance. Assumed
  core::Seconds time_constant{20};  ///< assumed
  core::Celsius reference{60};      ///< the temperature at which the given powers hold. Assumed
  double leakage_w_per_k = 0.15;    ///< more power for each kelvin above the reference. Assumed
  core::Celsius throttle{87};       ///< the driver lowers the clock from here on. Assumed
  double hysteresis_k = 3;          ///< and lifts it again this much below. Assumed
};

/// How long a new clock takes to arrive. Each target clock of each GPU has its own typical latency, drawn
/// once from a log-normal distribution around `median`; each switch to it varies around that
/// (docs/simulated_gpu.md).
struct LatencySpec {
  core::Seconds median{0.012};     ///< over target clocks. Assumed
  double sigma_of_targets = 0.3;   ///< standard deviation of the logarithm between target clocks. Assumed
  double sigma_of_switches = 0.1;  ///< and between switches to the same one. Assumed
  core::Seconds least{0.002};      ///< no switch is faster. Assumed
  core::Seconds most{0.1};         ///< no switch is slower. Assumed
};

/// One GPU.
struct GpuSpec {
  std::string name;               ///< as the driver says it; 1 to 95 printable ASCII characters
  std::vector<ClockSpec> clocks;  ///< ascending by clock, 1 to 256 of them
  core::Megahertz memory_clock{1593};
  core::Watts idle_power;    ///< at the reference temperature, with nothing to do
  core::Watts memory_power;  ///< more at full memory bandwidth
  core::Watts power_limit;   ///< default and highest power limit
  core::Watts least_power_limit;
  ThermalSpec thermal;
  LatencySpec latency;
  core::Seconds counter_period{0.1};  ///< of the energy counter's updates; its phase comes from the seed
  core::Seconds idle_after{0.5};      ///< without work for so long, the clock goes down. Assumed
  bool power_usage_is_average =
      false;  ///< what nvmlDeviceGetPowerUsage gives: the mean of 1 s, or the moment
  std::uint64_t memory_bytes = 80ULL << 30U;
  std::uint32_t architecture = 7;  ///< NVML_DEVICE_ARCH_*: 7 Ampere, 9 Hopper
  std::uint32_t capability_major = 8, capability_minor = 0;
  std::uint32_t pci_device_id = 0x20B210DE;  ///< device and vendor, as in NVML's pciDeviceId
};

/// One machine.
struct NodeSpec {
  std::vector<GpuSpec> gpus;  ///< 1 to 64
  std::uint64_t seed = 1;     ///< UUIDs, counter phases and switch latencies follow from it
  /// Simulated seconds that pass in one real second; 1e-3 to 1e6. Ignored with manual time.
  double time_scale = 1;
  /// Time stands still but for Node::advance_time(): for tests.
  bool manual_time = false;
  /// The state file's mode: 0600, so that only this user and root see the GPUs, or 0666, so that every user
  /// of the machine may read and *set* them, as the simulated driver itself then is the only guard (fault
  /// "permission").
  bool every_user = false;
  std::string driver_version = "580.95.05";  ///< what the simulated driver calls itself; 1 to 79 characters
};

/// kInvalidInput with the field's name, its value and its limits.
[[nodiscard]] core::Status validate(const NodeSpec& spec);

/// The highest utilisation of the SMs, at most 1, at which the power limit lets the top clock be held, with
/// the memory at `memory_utilization`.
[[nodiscard]] double sustained_utilization(const GpuSpec& gpu, double memory_utilization);

}  // namespace perseus::simgpu
