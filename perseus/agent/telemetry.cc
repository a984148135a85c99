// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/telemetry.h"

namespace perseus::agent {

void Telemetry::add(const Reading& reading) {
  add_energy(reading);
  add_reasons(reading);
  driver_time_ += reading.driver_time;
  ++readings_;
  if (reading.error) ++failed_;
  last_ = reading;
}

void Telemetry::add_energy(const Reading& reading) {
  if (!reading.energy) return;
  if (!energy_) energy_ = core::Joules(0);
  if (last_energy_) {
    const core::Joules delta = reading.energy->total - last_energy_->total;
    const bool same =
        reading.energy->epoch == last_energy_->epoch && reading.energy->source == last_energy_->source;
    if (same && delta >= core::Joules(0)) {
      *energy_ += delta;
    } else {
      ++dropped_;
    }
  }
  last_energy_ = reading.energy;
}

void Telemetry::add_reasons(const Reading& reading) {
  if (readings_ == 0 || !reading.reasons) return;
  const lease::Duration gap = reading.at - last_.at;
  if (gap <= lease::Duration::zero() || gap > kMaxGap) return;
  const core::Seconds time(std::chrono::duration<double>(gap).count());
  observed_ += time;
  for (std::size_t i = 0; i < kReasonNames.size(); ++i) {
    if (reading.reasons->has(static_cast<gpu::ClockReason>(1U << i))) reason_time_.at(i) += time;
  }
}

}  // namespace perseus::agent
