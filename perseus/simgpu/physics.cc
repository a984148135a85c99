// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/physics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace perseus::simgpu {
namespace {

constexpr double kNs = 1e-9;

double seconds(std::int64_t ns) {
  return static_cast<double>(ns) * kNs;
}

/// The first whole nanosecond at or after `s` seconds past `base_ns`, later than it; kNever beyond a century.
std::int64_t after(std::int64_t base_ns, double s) {
  if (!(s < 3e9)) return kNever;
  return base_ns + std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(s / kNs)));
}

double temperature_after(const Stretch& stretch, double from_c, double s) {
  return stretch.final_temperature_c +
         (from_c - stretch.final_temperature_c) * std::exp(-stretch.decay_per_s * s);
}

/// Integral of power_at(temperature) over `s` seconds.
double energy_over(const Stretch& stretch, double from_c, double s) {
  const double swing = (from_c - stretch.final_temperature_c) * -std::expm1(-stretch.decay_per_s * s);
  return power_at(stretch, stretch.final_temperature_c) * s +
         stretch.leakage_w_per_k * swing / stretch.decay_per_s;
}

/// Seconds until the temperature passes `limit_c`; infinite if it never does.
double time_to_temperature(const Stretch& stretch, double from_c, double limit_c) {
  const double ratio = (from_c - stretch.final_temperature_c) / (limit_c - stretch.final_temperature_c);
  return ratio > 1 ? std::log(ratio) / stretch.decay_per_s : INFINITY;
}

double fault_value(const DeviceState& state, FaultKind kind) {
  return state.fault_values[static_cast<std::size_t>(kind)];
}

/// Watts at the reference temperature.
double load_power(const GpuConstants& gpu, std::uint32_t row, const WorkSlot& work) {
  const ClockRow& clock = gpu.clocks[row];
  return clock.static_w + gpu.memory_w * work.memory_utilization + clock.dynamic_w * work.utilization;
}

/// Where the temperature tends to at this power (at the reference temperature).
double balance(const GpuConstants& gpu, double reference_power_w) {
  const double at_zero = reference_power_w - gpu.leakage_w_per_k * gpu.reference_c;
  return (gpu.ambient_c + gpu.resistance_k_per_w * at_zero) /
         (1 - gpu.resistance_k_per_w * gpu.leakage_w_per_k);
}

/// The highest row up to `from` for which `fits` holds; 0 if none does. What fits at a clock fits below it.
template <class Fits>
std::uint32_t highest_row(std::uint32_t from, Fits fits) {
  if (fits(from)) return from;
  std::uint32_t low = 0;
  std::uint32_t high = from;
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

/// The clock that the limiters leave to `work`, and the reasons that they would give.
void limit_clock(const GpuConstants& gpu, const DeviceState& state, const WorkSlot& work, Stretch& stretch) {
  const std::uint32_t top = gpu.clock_count - 1;
  std::uint32_t row = state.limit;
  if (row < top) stretch.reasons |= kReasonSetting;
  if (has_fault(state, FaultKind::kThrottle)) {
    const auto held = row_at_most(gpu, static_cast<std::uint32_t>(fault_value(state, FaultKind::kThrottle)));
    if (held < row) row = held;
    stretch.reasons |= kReasonHardware | kReasonHardwareThermal;
  }
  if (state.thermal != 0) {
    // One kelvin below the limit, in balance.
    row = highest_row(
        row, [&](std::uint32_t r) { return balance(gpu, load_power(gpu, r, work)) <= gpu.throttle_c - 1; });
    stretch.reasons |= kReasonSoftwareThermal;
  }
  // The limiter reckons with the hottest chip, so that power never exceeds the limit while the lowest clock
  // keeps it.
  const double leakage = gpu.leakage_w_per_k * std::max(0.0, gpu.throttle_c - gpu.reference_c);
  const double limit = enforced_power_limit_w(state) - leakage;
  const std::uint32_t capped =
      highest_row(row, [&](std::uint32_t r) { return load_power(gpu, r, work) <= limit; });
  if (capped < row) stretch.reasons |= kReasonPowerCap;
  stretch.row = capped;
}

/// Energies and busy times of the ticks after the base up to `to_ns`.
void record_ticks(DeviceState& state, const Stretch& stretch, std::int64_t to_ns) {
  const std::int64_t last = to_ns / kTickNs;
  const auto slots = static_cast<std::int64_t>(kTickSlots);
  for (std::int64_t tick = std::max(state.tick + 1, last - slots + 1); tick <= last; ++tick) {
    const double s = seconds(tick * kTickNs - state.base_ns);
    const auto slot = static_cast<std::size_t>(tick % slots);
    state.tick_energy_j[slot] = state.energy_j + energy_over(stretch, state.temperature_c, s);
    state.tick_busy_s[slot] = state.busy_s + (stretch.busy ? s : 0);
  }
  state.tick = std::max(state.tick, last);
}

/// The counter's last update after the base up to `to_ns`, if there is one.
void record_counter(const GpuConstants& gpu, DeviceState& state, const Stretch& stretch, std::int64_t to_ns) {
  if (to_ns < gpu.counter_phase_ns) return;
  const std::int64_t update = to_ns - (to_ns - gpu.counter_phase_ns) % gpu.counter_period_ns;
  if (update <= state.base_ns) return;
  state.counter_j =
      state.energy_j + energy_over(stretch, state.temperature_c, seconds(update - state.base_ns));
}

double uniform(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11U) + 0.5) * 0x1p-53;
}

/// A standard normal deviate (Box and Muller).
double normal(std::uint64_t seed, std::uint64_t salt) {
  const double radius = std::sqrt(-2 * std::log(uniform(mix(seed, 2 * salt))));
  return radius * std::cos(2 * std::numbers::pi * uniform(mix(seed, 2 * salt + 1)));
}

}  // namespace

std::uint64_t mix(std::uint64_t seed, std::uint64_t salt) {
  std::uint64_t z = seed + (salt + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EB;
  return z ^ (z >> 31U);
}

bool has_fault(const DeviceState& state, FaultKind kind) {
  return (state.fault_bits >> static_cast<unsigned>(kind) & 1U) != 0;
}

double enforced_power_limit_w(const DeviceState& state) {
  if (!has_fault(state, FaultKind::kPowerCap)) return state.power_limit_w;
  return std::min(state.power_limit_w, fault_value(state, FaultKind::kPowerCap));
}

std::uint32_t row_at_most(const GpuConstants& gpu, std::uint32_t mhz) {
  return highest_row(gpu.clock_count - 1, [&](std::uint32_t row) { return gpu.clocks[row].mhz <= mhz; });
}

double power_at(const Stretch& stretch, double temperature_c) {
  return stretch.power_at_zero_c_w + stretch.leakage_w_per_k * temperature_c;
}

Stretch stretch_of(const GpuConstants& gpu, const DeviceState& state, Works works) {
  Stretch stretch;
  stretch.busy = state.head != state.tail && !has_fault(state, FaultKind::kLost);
  double reference_power = gpu.idle_w;
  if (stretch.busy) {
    const WorkSlot& work = works[state.head % kWorkSlots];
    limit_clock(gpu, state, work, stretch);
    const double top = gpu.clocks[gpu.clock_count - 1].mhz;
    stretch.rate = 1 / ((1 - work.memory_bound) * top / gpu.clocks[stretch.row].mhz + work.memory_bound);
    reference_power = load_power(gpu, stretch.row, work);
  } else if (state.idle == 0) {
    limit_clock(gpu, state, WorkSlot{}, stretch);
    reference_power = gpu.clocks[stretch.row].static_w;
  } else {
    stretch.reasons = kReasonIdle;
  }
  stretch.leakage_w_per_k = gpu.leakage_w_per_k;
  stretch.power_at_zero_c_w = reference_power - gpu.leakage_w_per_k * gpu.reference_c;
  stretch.final_temperature_c = balance(gpu, reference_power);
  stretch.decay_per_s = (1 - gpu.resistance_k_per_w * gpu.leakage_w_per_k) / gpu.time_constant_s;
  return stretch;
}

void move_base(const GpuConstants& gpu, DeviceState& state, const Stretch& stretch, std::int64_t to_ns) {
  if (to_ns <= state.base_ns) return;
  record_ticks(state, stretch, to_ns);
  record_counter(gpu, state, stretch, to_ns);
  const double s = seconds(to_ns - state.base_ns);
  state.energy_j += energy_over(stretch, state.temperature_c, s);
  state.temperature_c = temperature_after(stretch, state.temperature_c, s);
  if (stretch.busy) {
    state.busy_s += s;
    state.remaining_s = std::max(0.0, state.remaining_s - stretch.rate * s);
  }
  state.base_ns = to_ns;
}

namespace {

std::int64_t work_end(const DeviceState& state, const Stretch& stretch) {
  return stretch.rate > 0 ? after(state.base_ns, state.remaining_s / stretch.rate) : kNever;
}

std::int64_t thermal_change(const GpuConstants& gpu, const DeviceState& state, const Stretch& stretch) {
  const double limit = state.thermal != 0 ? gpu.throttle_c - gpu.hysteresis_k : gpu.throttle_c;
  const bool passed = state.thermal != 0 ? state.temperature_c <= limit : state.temperature_c >= limit;
  return passed ? state.base_ns + 1
                : after(state.base_ns, time_to_temperature(stretch, state.temperature_c, limit));
}

}  // namespace

std::int64_t next_event(const GpuConstants& gpu, const DeviceState& state, const Stretch& stretch) {
  return std::min(
      {state.pending_ns, state.idle_ns, work_end(state, stretch), thermal_change(gpu, state, stretch)});
}

void begin_work(DeviceState& state, Works works) {
  WorkSlot& work = works[state.head % kWorkSlots];
  work.begin_ns = state.base_ns;
  work.begin_energy_j = state.energy_j;
  state.remaining_s = work.seconds;
  state.idle = 0;
  state.idle_ns = kNever;
}

void end_work(const GpuConstants& gpu, DeviceState& state, Works works, bool dropped) {
  WorkSlot& work = works[state.head % kWorkSlots];
  work.end_ns = state.base_ns;
  work.end_energy_j = state.energy_j;
  work.dropped = dropped ? 1 : 0;
  ++state.head;
  if (state.head != state.tail) {
    begin_work(state, works);
  } else {
    state.remaining_s = 0;
    state.idle_ns = state.base_ns + gpu.idle_after_ns;
  }
}

void advance(const GpuConstants& gpu, DeviceState& state, Works works, std::int64_t now_ns) {
  for (;;) {
    const Stretch stretch = stretch_of(gpu, state, works);
    const std::int64_t next = next_event(gpu, state, stretch);
    if (next > now_ns) return;
    const bool ends = next == work_end(state, stretch);
    const bool heats = next == thermal_change(gpu, state, stretch);
    move_base(gpu, state, stretch, next);
    if (next == state.pending_ns) {
      state.limit = state.pending;
      state.pending_ns = kNever;
    }
    if (heats) state.thermal ^= 1U;
    if (next == state.idle_ns) {
      state.idle = 1;
      state.idle_ns = kNever;
    }
    if (ends) end_work(gpu, state, works, false);
  }
}

void apply_settings(const GpuConstants& gpu, DeviceState& state) {
  const std::uint32_t top = gpu.clock_count - 1;
  std::uint32_t wanted = top;
  if (state.application_mhz != 0) wanted = row_at_most(gpu, state.application_mhz);
  if (state.lock_max_mhz != 0) wanted = row_at_most(gpu, state.lock_max_mhz);
  const std::uint32_t coming = state.pending_ns != kNever ? state.pending : state.limit;
  if (wanted == coming || has_fault(state, FaultKind::kStuck)) return;
  state.pending = wanted;
  state.pending_ns = state.base_ns + switch_latency_ns(gpu, wanted, state.switches);
  ++state.switches;
}

std::int64_t switch_latency_ns(const GpuConstants& gpu, std::uint32_t row, std::uint64_t number) {
  // Two independent streams: one number for each target clock, one for each switch.
  const double target = gpu.latency_sigma_targets * normal(mix(gpu.seed, 1), row);
  const double jitter = gpu.latency_sigma_switches * normal(mix(gpu.seed, 2), number);
  const double s = gpu.latency_median_s * std::exp(target + jitter);
  return std::max<std::int64_t>(1,
                                std::llround(std::clamp(s, gpu.latency_least_s, gpu.latency_most_s) / kNs));
}

void reset_driver_state(const GpuConstants& gpu, DeviceState& state) {
  state.lock_min_mhz = state.lock_max_mhz = state.application_mhz = state.memory_lock_mhz = 0;
  state.power_limit_w = gpu.power_limit_w;
  state.limit = gpu.clock_count - 1;
  state.pending_ns = kNever;
  state.counter_zero_j = state.counter_j = state.energy_j;
  ++state.counter_restarts;
}

}  // namespace perseus::simgpu
