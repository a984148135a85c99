// SPDX-License-Identifier: Apache-2.0
//
// Where a rank's clocks go: the node's agent or a guardian (hold_sink.h), a file (log_sink.h), or nowhere.
//
//   sink.post({.mhz = 900, .step = 7, .kind = core::Kind::kForward, .stage = 0, .microbatch = 3});
//   sink.post({});                 // the baseline
//   sink.wanted() == 0;
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/schedule.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"

namespace perseus::client {

/// One clock that is asked for, and the computation that it is for.
struct ClockPost {
  std::uint32_t mhz = 0;  ///< 0: the baseline
  std::uint64_t step = 0;
  core::Kind kind = core::Kind::kForward;
  std::uint32_t stage = 0;
  std::uint32_t microbatch = 0;
};

/// What a sink can say about itself. Read by the native thread.
struct SinkState {
  bool connected = false;  ///< somebody takes the clocks at this moment
  bool controls = false;   ///< clocks that are posted are set; false: a log, or nothing
  /// The last clock is not one of the GPU's: the plan is wrong.
  bool refused_clock = false;
  /// One sentence when it changed since the last look; empty otherwise.
  std::string news;
  bool news_is_warning = false;
};

/// What is known of the GPU behind a sink.
struct SinkGpu {
  std::string uuid;  ///< empty: not known (yet)
  std::vector<core::Megahertz> clocks;
};

/// post(), touch() and wanted() may be called by several threads and never wait: no lock that slow work
/// holds, no allocation, no system call while connected. The latest post counts. The rest belongs to the
/// native thread.
class ClockSink {
 public:
  ClockSink() = default;
  ClockSink(const ClockSink&) = delete;
  ClockSink& operator=(const ClockSink&) = delete;
  virtual ~ClockSink() = default;

  /// Asks for a clock.
  virtual void post(const ClockPost& post) = 0;
  /// The clock that was asked for last, in MHz; 0: the baseline.
  [[nodiscard]] virtual std::uint32_t wanted() const = 0;
  /// Tells the other end that the training loop lives (fault table, row 4).
  virtual void touch() {}

  /// Does what is left to do off the hot path: writes what was posted, looks for answers.
  virtual void work() {}
  [[nodiscard]] virtual SinkState state() = 0;
  [[nodiscard]] virtual SinkGpu gpu() { return {}; }
  /// Back to the baseline, and lets go of the GPU, within `patience`. Posts after it do nothing.
  virtual void close(core::Seconds patience) = 0;
};

/// Takes clocks and does nothing with them: telemetry only.
class NullSink final : public ClockSink {
 public:
  void post(const ClockPost& post) override { wanted_.store(post.mhz, std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t wanted() const override { return wanted_.load(std::memory_order_relaxed); }
  [[nodiscard]] SinkState state() override { return {}; }
  void close(core::Seconds /*patience*/) override {}

 private:
  std::atomic<std::uint32_t> wanted_{0};
};

}  // namespace perseus::client
