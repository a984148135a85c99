// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/energy_meter.h"

#include <chrono>

namespace perseus::gpu {
EnergyReading EnergyEpochs::note(EnergyReading reading) {
  if (last_ &&
      (reading.total < last_->total || reading.source != last_->source || reading.epoch != last_->epoch)) {
    ++epoch_;
  }
  last_ = reading;
  return {reading.total, reading.source, epoch_};
}

EnergyReading PowerIntegrator::sample(core::Seconds now, core::Watts power) {
  if (last_) {
    const core::Seconds gap = now - last_->time;
    if (gap > kLongestGap) {
      ++epoch_;
    } else {
      total_ += 0.5 * (last_->power + power) * gap;
    }
  }
  last_ = {now, power};
  return {total_, EnergySource::kIntegrated, epoch_};
}

PowerMeter::~PowerMeter() {
  {
    const std::lock_guard lock(stopping_);
    stopped_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

core::Result<EnergyReading> PowerMeter::read() {
  std::call_once(started_, [this] { thread_ = std::thread(&PowerMeter::run, this); });
  return sample();
}

core::Result<EnergyReading> PowerMeter::sample() {
  const std::lock_guard lock(sampling_);
  PERSEUS_ASSIGN_OR_RETURN(const core::Watts power, read_power_());
  return integrator_.sample(time_.now(), power);
}

void PowerMeter::run() {
  std::unique_lock lock(stopping_);
  while (!stopped_) {
    lock.unlock();
    // A sample that fails leaves a gap, which the integrator sees for itself.
    static_cast<void>(sample());
    lock.lock();
    stop_.wait_for(lock, std::chrono::duration<double>(kPeriod.value()), [this] { return stopped_; });
  }
}

}  // namespace perseus::gpu
