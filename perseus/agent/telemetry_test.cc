// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/telemetry.h"

#include <gtest/gtest.h>

namespace perseus::agent {
namespace {

using core::Joules;
using core::Seconds;
using gpu::EnergyReading;
using gpu::EnergySource;

Reading reading_at(double s, std::optional<EnergyReading> energy, std::uint32_t reasons) {
  const std::chrono::duration<double> since(s);
  return {.at = lease::Instant{std::chrono::round<lease::Duration>(since)},
          .energy = energy,
          .reasons = gpu::ClockReasons(reasons),
          .driver_time = Seconds{0.25}};
}

TEST(Telemetry, energy_counts_from_the_first_reading) {
  Telemetry telemetry;
  EXPECT_FALSE(telemetry.energy());
  telemetry.add(reading_at(1, EnergyReading{Joules{500}}, 0));
  EXPECT_EQ(telemetry.energy(), Joules{0});
  telemetry.add(reading_at(2, EnergyReading{Joules{620}}, 0));
  EXPECT_EQ(telemetry.energy(), Joules{120});
}

TEST(Telemetry, a_restart_of_the_counter_is_dropped_and_never_negative) {
  Telemetry telemetry;
  telemetry.add(reading_at(1, EnergyReading{Joules{500}}, 0));
  telemetry.add(reading_at(2, EnergyReading{Joules{3}, EnergySource::kCounter, 1}, 0));
  EXPECT_EQ(telemetry.energy(), Joules{0});
  EXPECT_EQ(telemetry.dropped_energy_deltas(), 1U);
  telemetry.add(reading_at(3, EnergyReading{Joules{13}, EnergySource::kCounter, 1}, 0));
  EXPECT_EQ(telemetry.energy(), Joules{10});
  telemetry.add(
      reading_at(4, EnergyReading{Joules{5}, EnergySource::kCounter, 1}, 0));  // unnoticed by the backend
  EXPECT_EQ(telemetry.energy(), Joules{10});
  EXPECT_EQ(telemetry.dropped_energy_deltas(), 2U);
}

TEST(Telemetry, reasons_add_up_as_time) {
  Telemetry telemetry;
  telemetry.add(reading_at(1, {}, 0x4));
  EXPECT_EQ(telemetry.observed(), Seconds{0});  // nothing is known of the time before the first reading
  telemetry.add(reading_at(1.5, {}, 0x4));
  telemetry.add(reading_at(2, {}, 0x24));
  telemetry.add(reading_at(3, {}, 0));
  EXPECT_EQ(telemetry.observed(), Seconds{2});
  EXPECT_EQ(telemetry.reason_time()[2], Seconds{1});
  EXPECT_EQ(telemetry.reason_time()[5], Seconds{0.5});
  EXPECT_EQ(telemetry.reason_time()[0], Seconds{0});
}

TEST(Telemetry, a_gap_stands_for_nothing) {
  Telemetry telemetry;
  telemetry.add(reading_at(1, {}, 0x4));
  telemetry.add(reading_at(7, {}, 0x4));
  EXPECT_EQ(telemetry.observed(), Seconds{0});
  telemetry.add(reading_at(12, {}, 0x4));
  EXPECT_EQ(telemetry.reason_time()[2], Seconds{5});
  EXPECT_EQ(telemetry.readings(), 3U);
  EXPECT_EQ(telemetry.driver_time(), Seconds{0.75});
}

TEST(Telemetry, failed_readings_are_counted) {
  Telemetry telemetry;
  Reading failed;
  failed.error = core::Error(core::ErrorCode::kDeviceLost, "gone");
  telemetry.add(failed);
  EXPECT_EQ(telemetry.failed_readings(), 1U);
}

}  // namespace
}  // namespace perseus::agent
