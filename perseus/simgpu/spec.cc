// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "perseus/simgpu/layout.h"

namespace perseus::simgpu {
namespace {

core::Status refuse(std::string_view field, std::string_view value, std::string_view limits) {
  return core::fail(core::ErrorCode::kInvalidInput, fmt::format("{}: {} is not {}", field, value, limits));
}

/// NaN is in no range.
core::Status in_range(std::string_view field, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return refuse(field, fmt::format("{}", value), fmt::format("from {} to {}", low, high));
}

core::Status text_fits(std::string_view field, std::string_view text, std::size_t most) {
  const bool printable = std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
  if (!text.empty() && text.size() <= most && printable) return {};
  return refuse(field, fmt::format("a text of {} bytes", text.size()),
                fmt::format("1 to {} printable ASCII characters", most));
}

core::Status validate_clocks(const std::vector<ClockSpec>& clocks) {
  if (clocks.empty() || clocks.size() > kMaxClocks) {
    return refuse("clocks", fmt::format("a number of {}", clocks.size()),
                  fmt::format("from 1 to {}", kMaxClocks));
  }
  for (std::size_t i = 0; i < clocks.size(); ++i) {
    PERSEUS_RETURN_IF_ERROR(in_range("clock (MHz)", clocks[i].clock.value(), 1, 100'000));
    PERSEUS_RETURN_IF_ERROR(in_range("dynamic_power (W)", clocks[i].dynamic_power.value(), 0, 1e5));
    PERSEUS_RETURN_IF_ERROR(in_range("static_power (W)", clocks[i].static_power.value(), 0, 1e5));
    if (i == 0) continue;
    const ClockSpec& last = clocks[i - 1];
    if (clocks[i].clock <= last.clock || clocks[i].dynamic_power < last.dynamic_power ||
        clocks[i].static_power < last.static_power) {
      return refuse("clocks", fmt::format("{} MHz after {} MHz", clocks[i].clock.value(), last.clock.value()),
                    "a higher clock with at least the power of the one before");
    }
  }
  return {};
}

core::Status validate_thermal(const ThermalSpec& thermal) {
  PERSEUS_RETURN_IF_ERROR(in_range("ambient (C)", thermal.ambient.value(), -50, 100));
  PERSEUS_RETURN_IF_ERROR(in_range("resistance_k_per_w", thermal.resistance_k_per_w, 0, 10));
  PERSEUS_RETURN_IF_ERROR(in_range("time_constant (s)", thermal.time_constant.value(), 1e-3, 1e5));
  PERSEUS_RETURN_IF_ERROR(in_range("reference (C)", thermal.reference.value(), -50, 200));
  PERSEUS_RETURN_IF_ERROR(in_range("leakage_w_per_k", thermal.leakage_w_per_k, 0, 100));
  PERSEUS_RETURN_IF_ERROR(
      in_range("throttle (C)", thermal.throttle.value(), thermal.ambient.value() + 5, 1000));
  PERSEUS_RETURN_IF_ERROR(in_range("hysteresis_k", thermal.hysteresis_k, 0.1,
                                   thermal.throttle.value() - thermal.ambient.value()));
  // At 1 the chip would heat itself without end.
  return in_range("resistance_k_per_w x leakage_w_per_k",
                  thermal.resistance_k_per_w * thermal.leakage_w_per_k, 0, 0.9);
}

core::Status validate_latency(const LatencySpec& latency) {
  PERSEUS_RETURN_IF_ERROR(in_range("latency.least (s)", latency.least.value(), 1e-9, 100));
  PERSEUS_RETURN_IF_ERROR(in_range("latency.most (s)", latency.most.value(), latency.least.value(), 100));
  PERSEUS_RETURN_IF_ERROR(
      in_range("latency.median (s)", latency.median.value(), latency.least.value(), latency.most.value()));
  PERSEUS_RETURN_IF_ERROR(in_range("latency.sigma_of_targets", latency.sigma_of_targets, 0, 3));
  return in_range("latency.sigma_of_switches", latency.sigma_of_switches, 0, 3);
}

core::Status validate_powers(const GpuSpec& gpu) {
  // A cold chip leaks less, but no power is negative.
  const double least =
      std::max(0.0, gpu.thermal.leakage_w_per_k * (gpu.thermal.reference - gpu.thermal.ambient).value());
  PERSEUS_RETURN_IF_ERROR(in_range("idle_power (W)", gpu.idle_power.value(), least, 1e5));
  PERSEUS_RETURN_IF_ERROR(in_range("static_power (W)", gpu.clocks.front().static_power.value(), least, 1e5));
  PERSEUS_RETURN_IF_ERROR(in_range("memory_power (W)", gpu.memory_power.value(), 0, 1e5));
  PERSEUS_RETURN_IF_ERROR(in_range("power_limit (W)", gpu.power_limit.value(), 1, 1e5));
  return in_range("least_power_limit (W)", gpu.least_power_limit.value(), 0, gpu.power_limit.value());
}

core::Status validate_gpu(const GpuSpec& gpu) {
  PERSEUS_RETURN_IF_ERROR(text_fits("name", gpu.name, 95));
  PERSEUS_RETURN_IF_ERROR(validate_clocks(gpu.clocks));
  PERSEUS_RETURN_IF_ERROR(in_range("memory_clock (MHz)", gpu.memory_clock.value(), 1, 100'000));
  PERSEUS_RETURN_IF_ERROR(validate_thermal(gpu.thermal));
  PERSEUS_RETURN_IF_ERROR(validate_powers(gpu));
  PERSEUS_RETURN_IF_ERROR(validate_latency(gpu.latency));
  PERSEUS_RETURN_IF_ERROR(in_range("counter_period (s)", gpu.counter_period.value(), 1e-6, 100));
  return in_range("idle_after (s)", gpu.idle_after.value(), 0, 1000);
}

}  // namespace

core::Status validate(const NodeSpec& spec) {
  if (spec.gpus.empty() || spec.gpus.size() > kMaxGpus) {
    return refuse("gpus", fmt::format("a number of {}", spec.gpus.size()),
                  fmt::format("from 1 to {}", kMaxGpus));
  }
  if (!spec.manual_time) PERSEUS_RETURN_IF_ERROR(in_range("time_scale", spec.time_scale, 1e-3, 1e6));
  PERSEUS_RETURN_IF_ERROR(text_fits("driver_version", spec.driver_version, 79));
  for (const GpuSpec& gpu : spec.gpus) PERSEUS_RETURN_IF_ERROR(validate_gpu(gpu));
  return {};
}

double sustained_utilization(const GpuSpec& gpu, double memory_utilization) {
  const ClockSpec& top = gpu.clocks.back();
  // As the limiter reckons: with the hottest chip (physics.cc).
  const core::Watts leakage(gpu.thermal.leakage_w_per_k *
                            std::max(0.0, (gpu.thermal.throttle - gpu.thermal.reference).value()));
  const core::Watts left =
      gpu.power_limit - leakage - top.static_power - memory_utilization * gpu.memory_power;
  if (left.value() <= 0) return 0;
  // A hair less, so that rounding does not cost a clock step.
  return left < top.dynamic_power ? left / top.dynamic_power * (1 - 1e-9) : 1;
}

}  // namespace perseus::simgpu
