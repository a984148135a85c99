// SPDX-License-Identifier: Apache-2.0
//
// What is known of one GPU from its readings: the last values, and sums since the agent started.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// One round of readings of a GPU. Absent: the driver did not tell.
struct Reading {
  lease::Instant at;  ///< when it began
  std::optional<core::Megahertz> sm_clock;
  std::optional<core::Watts> power;  ///< momentary where the product has it, else averaged
  std::optional<gpu::EnergyReading> energy;
  std::optional<core::Celsius> temperature;
  std::optional<gpu::ClockReasons> reasons;
  std::optional<double> utilization;
  core::Seconds driver_time;  ///< spent inside the driver
  /// The first error that is about the GPU or the driver as a whole (kDeviceLost, kDriver).
  std::optional<core::Error> error;
};

/// The clock-event reasons by name, in the order of their bits.
inline constexpr std::array<std::string_view, 9> kReasonNames = {
    "idle",       "application_clocks", "power_cap",        "hardware_slowdown",
    "sync_boost", "software_thermal",   "hardware_thermal", "power_brake",
    "display"};

/// Adds readings up. Pure; belongs to one thread.
class Telemetry {
 public:
  /// Longest time that one reading stands for: after a gap nothing is known of the time between (assumed).
  static constexpr lease::Duration kMaxGap = std::chrono::seconds(5);

  void add(const Reading& reading);

  [[nodiscard]] const Reading& last() const { return last_; }
  /// Since the first reading. Deltas over a restart of the counter are left out (fault table, row 11).
  [[nodiscard]] std::optional<core::Joules> energy() const { return energy_; }
  [[nodiscard]] std::uint64_t dropped_energy_deltas() const { return dropped_; }
  /// Time for which each reason held, in the order of kReasonNames: a reading stands for the time since the
  /// one before it. Single readings are noise (RELIABILITY.md 6); shares of time are what counts.
  [[nodiscard]] const std::array<core::Seconds, kReasonNames.size()>& reason_time() const {
    return reason_time_;
  }
  /// Time that all readings stand for.
  [[nodiscard]] core::Seconds observed() const { return observed_; }
  [[nodiscard]] core::Seconds driver_time() const { return driver_time_; }
  [[nodiscard]] std::uint64_t readings() const { return readings_; }
  [[nodiscard]] std::uint64_t failed_readings() const { return failed_; }

 private:
  void add_energy(const Reading& reading);
  void add_reasons(const Reading& reading);

  Reading last_;
  std::optional<gpu::EnergyReading> last_energy_;
  std::optional<core::Joules> energy_;
  std::uint64_t dropped_ = 0;
  std::array<core::Seconds, kReasonNames.size()> reason_time_{};
  core::Seconds observed_;
  core::Seconds driver_time_;
  std::uint64_t readings_ = 0;
  std::uint64_t failed_ = 0;
};

}  // namespace perseus::agent
