// SPDX-License-Identifier: Apache-2.0
//
// What a session learns of its GPU by reading it: updates of the energy counter with their moments, and the
// reasons of the clock. Reads nothing itself; energy_sampler.h does.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perseus/client/energy_ledger.h"
#include "perseus/client/throttle_log.h"
#include "perseus/core/units.h"
#include "perseus/gpu/device.h"

namespace perseus::client {

/// Since the last look.
struct TelemetryNews {
  std::vector<EnergyUpdate> updates;
  std::vector<ReasonSample> reasons;
  std::string trouble;  ///< one sentence, once
};

/// The GPU as its driver shows it.
struct TelemetryGpu {
  std::string uuid;
  std::vector<core::Megahertz> clocks;
  core::Seconds counter_period;  ///< of the energy counter as measured; 0: unknown (yet)
  friend bool operator==(const TelemetryGpu&, const TelemetryGpu&) = default;
};

/// Thread-safe; nothing here waits for a driver.
class Telemetry {
 public:
  Telemetry() = default;
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;
  virtual ~Telemetry() = default;
  /// Appends what there is to `news` and forgets it.
  virtual void collect(TelemetryNews& news) = 0;
  /// Nothing until the GPU has been opened.
  [[nodiscard]] virtual std::optional<TelemetryGpu> gpu() const = 0;
  /// The moments of updates matter now (a sweep), or they do not.
  virtual void set_precise(bool precise) = 0;
};

/// Finds the moments at which a counter changes in readings taken at moments of our own. Not thread-safe.
class UpdateCatcher {
 public:
  /// A reading taken between `begin_ns` and `end_ns`. Gives the update, at the middle between the end of the
  /// last look that still saw the old value and this one's. The first reading gives none: since when it
  /// stands is not known.
  std::optional<EnergyUpdate> note(std::uint64_t begin_ns, std::uint64_t end_ns,
                                   const gpu::EnergyReading& reading);

 private:
  std::optional<gpu::EnergyReading> last_;
  std::uint64_t last_seen_ns_ = 0;
};

}  // namespace perseus::client
