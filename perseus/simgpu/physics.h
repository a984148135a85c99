// SPDX-License-Identifier: Apache-2.0
//
// The physics of one simulated GPU (docs/simulated_gpu.md has the formulas). Between two events nothing
// changes, so that temperature, energy and progress have closed forms; advance() goes from event to event.
// What is read in between is computed from the last event and not stored: how often somebody looks does not
// change a digit.
#pragma once

#include <span>

#include "perseus/simgpu/layout.h"

namespace perseus::simgpu {

/// The stretch that a device is in: what holds until the next event.
struct Stretch {
  std::uint32_t row = 0;         ///< the clock in force
  std::uint32_t reasons = 0;     ///< NVML's clocks event reasons
  double power_at_zero_c_w = 0;  ///< power = this + leakage x temperature
  double leakage_w_per_k = 0;
  double final_temperature_c = 0;  ///< where the temperature tends to
  double decay_per_s = 0;
  double rate = 0;  ///< seconds at the top clock done in one second; 0: no work, or lost
  bool busy = false;
};

/// The works of a device, as a ring: work number n is at n % size().
using Works = std::span<WorkSlot, kWorkSlots>;

/// NVML's bits (nvml.h, nvmlClocksEventReasons).
inline constexpr std::uint32_t kReasonIdle = 0x1, kReasonSetting = 0x2, kReasonPowerCap = 0x4,
                               kReasonHardware = 0x8, kReasonSoftwareThermal = 0x20,
                               kReasonHardwareThermal = 0x40;

[[nodiscard]] bool has_fault(const DeviceState& state, FaultKind kind);

/// The stretch at the state's base.
[[nodiscard]] Stretch stretch_of(const GpuConstants& gpu, const DeviceState& state, Works works);

/// Watts at a temperature.
[[nodiscard]] double power_at(const Stretch& stretch, double temperature_c);

/// Brings the state through every event up to `now_ns` (simulated); its base is then the last of them, or
/// what it was.
void advance(const GpuConstants& gpu, DeviceState& state, Works works, std::int64_t now_ns);

/// Moves the base to `to_ns`; no event may lie in between (call advance() first).
void move_base(const GpuConstants& gpu, DeviceState& state, const Stretch& stretch, std::int64_t to_ns);

/// When the next event comes by itself; kNever if none does.
[[nodiscard]] std::int64_t next_event(const GpuConstants& gpu, const DeviceState& state,
                                      const Stretch& stretch);

/// Takes the work at the head off the queue, finished or `dropped`, and begins the next one. The base must be
/// now.
void end_work(const GpuConstants& gpu, DeviceState& state, Works works, bool dropped);

/// Begins the work at the head. The base must be now.
void begin_work(DeviceState& state, Works works);

/// The highest clock that settings allow, from now on or after the switch's latency. The base must be now.
void apply_settings(const GpuConstants& gpu, DeviceState& state);

/// The latency of switch number `number` to row `row`, in nanoseconds: the same for the same seed.
[[nodiscard]] std::int64_t switch_latency_ns(const GpuConstants& gpu, std::uint32_t row,
                                             std::uint64_t number);

/// The highest row whose clock is at most `mhz`; row 0 if none is.
[[nodiscard]] std::uint32_t row_at_most(const GpuConstants& gpu, std::uint32_t mhz);

/// Everything as it is right after the driver was loaded: no lock, the counter at 0. The base must be now.
void reset_driver_state(const GpuConstants& gpu, DeviceState& state);

/// The least of the power limits.
[[nodiscard]] double enforced_power_limit_w(const DeviceState& state);

/// 64 well mixed bits from `seed` and `salt` (splitmix64).
[[nodiscard]] std::uint64_t mix(std::uint64_t seed, std::uint64_t salt);

}  // namespace perseus::simgpu
