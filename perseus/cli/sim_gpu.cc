// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/sim_gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "perseus/model/gpu_physics.h"

namespace perseus::cli {
namespace {

constexpr std::string_view kSmi = "`nvidia-smi -q` of the product, as published in logs; not measured by us";
constexpr std::string_view kCooling =
    "assumed, so that the product at its power limit stays below its slowdown temperature";
constexpr std::string_view kLatency = "assumed: docs/simulated_gpu.md, switch latency";
constexpr std::uint32_t kNvidia = 0x10DE;  // PCI vendor

constexpr std::uint32_t pci_id(std::uint32_t device) {
  return device << 16U | kNvidia;
}

constexpr double kMebi = 1024.0 * 1024.0;

// Sorted as the zoo is.
constexpr std::array kFacts = {
    DriverFacts{"a100-pcie-80g",
                "NVIDIA A100 80GB PCIe",
                pci_id(0x20B5),
                7,
                8,
                0,
                false,
                {81920 * kMebi, "B", kSmi},
                {1512, "MHz", kSmi},
                {150, "W", kSmi},
                {0.14, "K/W", kCooling},
                {0.012, "s", kLatency},
                {0.025, "s", kLatency}},
    DriverFacts{"a100-sxm-80g",
                "NVIDIA A100-SXM4-80GB",
                pci_id(0x20B2),
                7,
                8,
                0,
                false,
                {81920 * kMebi, "B", kSmi},
                {1593, "MHz", kSmi},
                {100, "W", kSmi},
                {0.1, "K/W", kCooling},
                {0.012, "s", kLatency},
                {0.025, "s", kLatency}},
    DriverFacts{"a40",
                "NVIDIA A40",
                pci_id(0x2235),
                7,
                8,
                6,
                true,
                {46068 * kMebi, "B", kSmi},
                {7251, "MHz", kSmi},
                {100, "W", kSmi},
                {0.15, "K/W", kCooling},
                {0.012, "s", kLatency},
                {0.025, "s", kLatency}},
    DriverFacts{"h100-pcie",
                "NVIDIA H100 PCIe",
                pci_id(0x2331),
                9,
                9,
                0,
                true,
                {81559 * kMebi, "B", kSmi},
                {1593, "MHz", kSmi},
                {200, "W", kSmi},
                {0.13, "K/W", kCooling},
                {0.02, "s", kLatency},
                {0.2, "s", kLatency}},
    DriverFacts{"h100-sxm",
                "NVIDIA H100 80GB HBM3",
                pci_id(0x2330),
                9,
                9,
                0,
                true,
                {81559 * kMebi, "B", kSmi},
                {2619, "MHz", kSmi},
                {200, "W", kSmi},
                {0.06, "K/W", kCooling},
                {0.02, "s", kLatency},
                {0.2, "s", kLatency}},
    DriverFacts{"h200-sxm",
                "NVIDIA H200",
                pci_id(0x2335),
                9,
                9,
                0,
                true,
                {143771 * kMebi, "B", kSmi},
                {3201, "MHz", kSmi},
                {200, "W", kSmi},
                {0.06, "K/W", kCooling},
                {0.02, "s", kLatency},
                {0.2, "s", kLatency}},
};

std::vector<simgpu::ClockSpec> clock_specs(const model::GpuModel& gpu) {
  std::vector<simgpu::ClockSpec> specs;
  for (const core::Megahertz clock : model::supported_clocks(gpu)) {
    specs.push_back({clock, model::dynamic_power(gpu, clock), core::Watts(gpu.static_power.value)});
  }
  std::ranges::reverse(specs);
  return specs;
}

}  // namespace

std::span<const DriverFacts> driver_facts() {
  return kFacts;
}

core::Result<simgpu::GpuSpec> simulated_gpu(const model::GpuModel& gpu) {
  const auto* facts = std::ranges::find(kFacts, gpu.name, &DriverFacts::gpu);
  if (facts == kFacts.end()) {
    return core::fail(core::ErrorCode::kUnsupported,
                      fmt::format("the simulated driver has no facts on \"{}\"", gpu.name));
  }
  simgpu::GpuSpec spec;
  spec.name = facts->driver_name;
  spec.clocks = clock_specs(gpu);
  spec.memory_clock = core::Megahertz(static_cast<std::uint32_t>(facts->memory_clock.value));
  spec.idle_power = core::Watts(gpu.static_power.value);
  spec.memory_power = core::Watts(gpu.memory_power.value);
  spec.power_limit = core::Watts(gpu.power_limit.value);
  spec.least_power_limit = core::Watts(facts->least_power_limit.value);
  spec.thermal.resistance_k_per_w = facts->thermal_resistance.value;
  spec.latency.median = core::Seconds(facts->latency_median.value);
  spec.latency.most = core::Seconds(facts->latency_most.value);
  spec.power_usage_is_average = facts->power_usage_is_average;
  spec.memory_bytes = static_cast<std::uint64_t>(facts->memory_bytes.value);
  spec.architecture = facts->architecture;
  spec.capability_major = facts->capability_major;
  spec.capability_minor = facts->capability_minor;
  spec.pci_device_id = facts->pci_device_id;
  return spec;
}

}  // namespace perseus::cli
