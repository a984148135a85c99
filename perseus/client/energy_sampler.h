// SPDX-License-Identifier: Apache-2.0
//
// Reads a GPU on a thread of its own: a driver may take minutes for an answer, and nobody else may wait for
// it.
//
//   EnergySampler sampler({.gpu = "GPU-..."}, gpu::steady_time());
//   sampler.collect(news);
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "perseus/client/telemetry.h"
#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/backend.h"

namespace perseus::client {

struct SamplerSettings {
  std::string gpu;  ///< UUID, or an index of the backend
  gpu::BackendOptions backend;
  /// Looks at the counter in one of its periods, while moments matter: a moment is then known to 1/100 of the
  /// period (half a look), 1 ms at 100 ms. Assumed.
  double precise_looks = 50;
  double coarse_looks = 4;             ///< the same while they do not
  core::Seconds shortest_look{0.001};  ///< a reading takes 10 to 100 us (assumed)
  core::Seconds reason_look{0.05};     ///< of the clock's reasons; assumed
};

/// Thread-safe. The thread opens the backend, measures the counter's period (gpu/counter_period.h) and reads
/// until the end. A device that fails is asked again every few seconds.
class EnergySampler final : public Telemetry {
 public:
  explicit EnergySampler(SamplerSettings settings);
  EnergySampler(const EnergySampler&) = delete;
  EnergySampler& operator=(const EnergySampler&) = delete;
  /// Waits for a reading in progress, 0.5 s at most; a thread that hangs in the driver is left to itself.
  ~EnergySampler() override;

  void collect(TelemetryNews& news) override;
  [[nodiscard]] std::optional<TelemetryGpu> gpu() const override;
  void set_precise(bool precise) override;
  /// Whether the GPU was opened within `patience`.
  bool wait_until_open(core::Seconds patience);

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;  ///< shared with the thread, which may outlive the sampler
};

}  // namespace perseus::client
