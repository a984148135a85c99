// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/gpu_physics.h"

#include <algorithm>
#include <array>

namespace perseus::model {
namespace {

constexpr Assumption kMemoryEfficiency{"share of the memory bandwidth that element-wise kernels reach",
                                       {0.85, "1", "assumed"}};
constexpr Assumption kMemorySmLoad{"SM load of a kernel that waits for memory",
                                   {0.3, "1", "assumed: share of the dynamic power of busy SMs"}};
constexpr Assumption kLinkSmLoad{"SM load during an all-reduce",
                                 {0.15, "1", "assumed: NCCL occupies about 20 of 108 SMs"}};
constexpr Assumption kLinkMemoryLoad{"memory load during an all-reduce", {0.2, "1", "assumed"}};
constexpr Assumption kAllReduceLatency{"fixed time of one all-reduce",
                                       {2e-5, "s", "assumed: launch and ring start-up on one node"}};

constexpr std::array kAssumptions = {kMemoryEfficiency, kMemorySmLoad, kLinkSmLoad, kLinkMemoryLoad,
                                     kAllReduceLatency};

/// One kernel's time and how it loads SMs and memory meanwhile (0 to 1).
struct Load {
  double seconds = 0;
  double sm = 0;
  double memory = 0;
};

/// Tensor cores against memory: the slower decides, the other idles for the rest.
Load roofline(const GpuModel& gpu, const Kernel& kernel, double efficiency, double hertz) {
  const double peak = gpu.streaming_multiprocessors.value * gpu.flop_per_clock.value * hertz;
  const double compute = kernel.flop / (peak * efficiency);
  const double memory = kernel.bytes / gpu.memory_bandwidth.value;
  const double seconds = std::max(compute, memory);
  return {seconds, std::max(compute / seconds, kMemorySmLoad.figure.value), memory / seconds};
}

Load load(const GpuModel& gpu, std::uint32_t tensor, const Kernel& kernel, double hertz) {
  switch (kernel.kind) {
    case KernelClass::kGemm:
      return roofline(gpu, kernel, gpu.gemm_efficiency.value, hertz);
    case KernelClass::kAttention:
      return roofline(gpu, kernel, gpu.attention_efficiency.value, hertz);
    case KernelClass::kMemory: {
      const double bandwidth = kMemoryEfficiency.figure.value * gpu.memory_bandwidth.value;
      return {kernel.bytes / bandwidth, kMemorySmLoad.figure.value, kMemoryEfficiency.figure.value};
    }
    case KernelClass::kLink: {
      const double bandwidth = tensor == 2 ? gpu.pair_bandwidth.value : gpu.group_bandwidth.value;
      return {kernel.bytes / bandwidth + kAllReduceLatency.figure.value, kLinkSmLoad.figure.value,
              kLinkMemoryLoad.figure.value};
    }
  }
  return {};
}

}  // namespace

double relative_voltage(const GpuModel& gpu, core::Megahertz clock) {
  const double knee = gpu.knee_clock.value;
  const double above = std::max(clock.value() - knee, 0.0) / (gpu.clock_max.value - knee);
  return 1 + above * (gpu.top_voltage.value - 1);
}

core::Watts dynamic_power(const GpuModel& gpu, core::Megahertz clock) {
  const double v = relative_voltage(gpu, clock);
  return core::Watts(gpu.dynamic_per_mhz.value * clock.value() * v * v);
}

Cost run_unlimited(const GpuModel& gpu, std::uint32_t tensor, std::span<const Kernel> work,
                   core::Megahertz clock) {
  const double hertz = 1e6 * clock.value();
  const core::Watts dynamic = dynamic_power(gpu, clock);
  const core::Watts static_power(gpu.static_power.value);
  const core::Watts memory_power(gpu.memory_power.value);
  Cost cost;
  for (const Kernel& kernel : work) {
    if (kernel.count == 0) continue;
    const Load l = load(gpu, tensor, kernel, hertz);
    const core::Seconds time(kernel.count * l.seconds);
    cost.time += time;
    cost.energy += (static_power + l.sm * dynamic + l.memory * memory_power) * time;
  }
  return cost;
}

core::Megahertz held_clock(const GpuModel& gpu, std::uint32_t tensor, std::span<const Kernel> work,
                           core::Megahertz requested) {
  const core::Watts limit(gpu.power_limit.value);
  const std::vector<core::Megahertz> clocks = supported_clocks(gpu);
  for (const core::Megahertz clock : clocks) {
    if (clock > requested) continue;
    const Cost cost = run_unlimited(gpu, tensor, work, clock);
    if (cost.energy / cost.time <= limit) return clock;
  }
  return clocks.back();
}

Cost run(const GpuModel& gpu, std::uint32_t tensor, std::span<const Kernel> work, core::Megahertz requested) {
  return run_unlimited(gpu, tensor, work, held_clock(gpu, tensor, work, requested));
}

std::span<const Assumption> physics_assumptions() {
  return kAssumptions;
}

}  // namespace perseus::model
