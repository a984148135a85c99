// SPDX-License-Identifier: Apache-2.0
//
// The thread that takes the readings of one GPU, apart from the one that sets its clock: a driver that is
// slow to tell delays no clock.
//
//   Sampler sampler(device, held, {.period = 200ms, .on_reading = [&](const Reading& r, auto judged) { ...
//   }}); sampler.ask_processes([](core::Result<std::vector<pid_t>> pids) { ... });
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "perseus/agent/held_clocks.h"
#include "perseus/agent/telemetry.h"
#include "perseus/agent/writer_watch.h"
#include "perseus/core/result.h"
#include "perseus/gpu/device.h"
#include "perseus/lease/clock.h"

namespace perseus::agent {

/// All values of a GPU, one driver call after the other; after an error that is about the whole GPU no more.
/// May block for as long as the driver does.
[[nodiscard]] Reading take_reading(gpu::Device& device, const lease::TimeSource& time);
/// The reading as evidence of who sets the clock; nothing if a change fell into it or a value is missing.
/// `changes_before` is held.changes() from before the reading was taken.
[[nodiscard]] std::optional<ClockReading> judged_reading(const Reading& reading, const HeldClocks& held,
                                                         std::uint64_t changes_before,
                                                         lease::Duration settle);

struct SamplerOptions {
  lease::Duration period = std::chrono::milliseconds(200);
  lease::Duration settle = std::chrono::milliseconds(500);
  bool paused = false;  ///< to begin with
  /// Called on the sampler's thread after each reading; must return soon and not call the sampler.
  std::function<void(const Reading&, const std::optional<ClockReading>&)> on_reading;
};

/// Functions are thread-safe and never wait for the driver, but for the destructor.
class Sampler {
 public:
  using Processes = std::function<void(core::Result<std::vector<pid_t>>)>;

  /// Starts the thread. Device and time must outlive it.
  Sampler(gpu::Device& device, std::shared_ptr<const HeldClocks> held, const lease::TimeSource& time,
          SamplerOptions options);
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;
  /// Joins: waits for a driver call in progress.
  ~Sampler();

  /// Asks the driver for the processes on the GPU; `done` is called once, on the sampler's thread, before the
  /// next reading.
  void ask_processes(Processes done);
  /// No readings and no questions to the driver (they are answered with kDriver) until resume().
  void pause();
  void resume();
  /// Period and settle time of SamplerOptions, from the next reading on.
  void set_times(lease::Duration period, lease::Duration settle);

 private:
  void run();
  void answer(const std::vector<Processes>& questions, bool paused);
  void read();

  gpu::Device& device_;
  std::shared_ptr<const HeldClocks> held_;
  const lease::TimeSource& time_;
  SamplerOptions options_;

  std::mutex mutex_;  ///< guards the next six
  std::condition_variable changed_;
  std::vector<Processes> questions_;
  lease::Duration period_;
  lease::Duration settle_;
  bool paused_ = false;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace perseus::agent
