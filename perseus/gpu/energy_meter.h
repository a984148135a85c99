// SPDX-License-Identifier: Apache-2.0
//
// Turns what a device offers into EnergyReadings: a counter whose restarts are noticed, or the sum of power
// samples where there is no counter.
//
//   EnergyEpochs epochs;
//   epochs.note({Joules{500}, EnergySource::kCounter});   // epoch 0
//   epochs.note({Joules{3}, EnergySource::kCounter});     // epoch 1: it restarted
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"
#include "perseus/gpu/time_source.h"

namespace perseus::gpu {

/// Gives readings their epoch: it moves on when the total goes back (the counter restarted), when the source
/// changes, and when the source itself says that it lost the thread. Not thread-safe: taking a reading and
/// note() belong under one lock, or two readers that overtake each other look like a restart.
class EnergyEpochs {
 public:
  /// `reading.epoch` counts what the source itself knows of; the answer's counts everything.
  [[nodiscard]] EnergyReading note(EnergyReading reading);

 private:
  std::optional<EnergyReading> last_;
  std::uint32_t epoch_ = 0;
};

/// Adds up power samples by the trapezoid rule. After a gap longer than kLongestGap, in which the power is
/// unknown, it starts a new epoch instead of guessing. Not thread-safe.
class PowerIntegrator {
 public:
  /// Between two samples further apart than this nothing is known: a second is the window over which products
  /// average their power (nvml.h, nvmlDeviceGetPowerUsage).
  static constexpr core::Seconds kLongestGap{1.0};

  /// `now` on any clock that does not go back.
  [[nodiscard]] EnergyReading sample(core::Seconds now, core::Watts power);

 private:
  struct Sample {
    core::Seconds time;
    core::Watts power;
  };
  std::optional<Sample> last_;
  core::Joules total_;
  std::uint32_t epoch_ = 0;
};

/// A PowerIntegrator that is fed by a thread of its own, which starts with the first reading. Thread-safe.
class PowerMeter {
 public:
  /// Half of the shortest update period of a power reading that is known (20 ms, RELIABILITY.md 6 and
  /// docs/gpus.md), so that no update is missed.
  static constexpr core::Seconds kPeriod{0.01};

  /// `read` gives the power now; it is called by the thread and by read(). `time` outlives the meter.
  PowerMeter(std::function<core::Result<core::Watts>()> read, TimeSource& time)
      : read_power_(std::move(read)), time_(time) {}
  PowerMeter(const PowerMeter&) = delete;
  PowerMeter& operator=(const PowerMeter&) = delete;
  /// Waits for a sample in progress.
  ~PowerMeter();

  /// Takes a sample of its own, so that the sum goes up to this moment. The first call returns about 0 J.
  [[nodiscard]] core::Result<EnergyReading> read();

 private:
  [[nodiscard]] core::Result<EnergyReading> sample();
  void run();

  std::function<core::Result<core::Watts>()> read_power_;
  TimeSource& time_;
  std::mutex sampling_;  // reading the power and adding it, in one order
  PowerIntegrator integrator_;
  std::mutex stopping_;
  std::condition_variable stop_;
  bool stopped_ = false;
  std::once_flag started_;
  std::thread thread_;
};

}  // namespace perseus::gpu
