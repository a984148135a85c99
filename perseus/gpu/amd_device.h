// SPDX-License-Identifier: Apache-2.0
//
// One AMD GPU through AMD SMI. Written from AMD's documentation and untested on hardware (docs/gpus.md).
// Private to the AMD backend.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/gpu/amd_library.h"
#include "perseus/gpu/counter_period.h"
#include "perseus/gpu/device.h"
#include "perseus/gpu/energy_meter.h"

namespace perseus::gpu {

/// What the backend and its devices share. As NvmlHost; `serial` is held as well during each call of a
/// library that is not thread-safe.
struct AmdHost {
  std::shared_mutex gate;
  std::mutex serial;
  std::unique_ptr<AmdLibrary> library;
  std::string closed_because = "not opened";
  bool needs_root = true;             ///< false in tests
  TimeSource* time = &steady_time();  ///< injected by tests
};

/// Thread-safe, except attach() and mark_missing(), which the backend calls while it holds the gate alone.
class AmdDevice final : public Device {
 public:
  /// `partitioned`: the GPU's socket shows several processors, which share one clock.
  AmdDevice(AmdHost& host, Identity identity, amd::Handle handle, bool partitioned)
      : host_(host), identity_(std::move(identity)), handle_(handle), partitioned_(partitioned) {}

  void attach(amd::Handle handle, bool partitioned);
  void mark_missing();

  [[nodiscard]] const Identity& identity() const override { return identity_; }
  /// Where the product offers discrete levels, these; else the range in steps of kStep, with both ends.
  [[nodiscard]] core::Result<std::vector<core::Megahertz>> supported_clocks() override;
  [[nodiscard]] core::Result<ClockControl> clock_control() override;
  [[nodiscard]] core::Status lock_clock(core::Megahertz clock) override;
  [[nodiscard]] core::Status reset_clock() override;
  [[nodiscard]] core::Result<core::Megahertz> sm_clock() override;
  [[nodiscard]] core::Result<PowerReading> power() override;
  /// Integrated power until the counter has been compared with it for EnergyCrossCheck::kSpan; then the
  /// counter, in another epoch, or integrated power for good.
  [[nodiscard]] core::Result<EnergyReading> energy() override;
  [[nodiscard]] core::Result<core::Celsius> temperature() override;
  /// kUnsupported: the structure that tells it changes with every release.
  [[nodiscard]] core::Result<ClockReasons> clock_reasons() override;
  [[nodiscard]] core::Result<double> utilization() override;
  [[nodiscard]] core::Result<core::Watts> enforced_power_limit() override;
  [[nodiscard]] core::Result<std::vector<pid_t>> processes() override;

  /// The driver takes whole megahertz within a range; the list that we offer has this step, so that it stays
  /// short. Assumed.
  static constexpr std::uint32_t kStep = 10;

 private:
  using Clocks = std::vector<core::Megahertz>;
  struct Obstacle {
    core::ErrorCode code = core::ErrorCode::kUnsupported;
    std::string reason;
  };

  template <class F, class... Arguments>
  [[nodiscard]] core::Status call(AmdFunction<F> AmdApi::* function, Arguments... arguments);
  template <class F, class... Arguments>
  [[nodiscard]] core::Result<amd::Status> call_accepting(amd::Status accepted,
                                                         AmdFunction<F> AmdApi::* function,
                                                         Arguments... arguments);
  [[nodiscard]] core::Status ready() const;
  [[nodiscard]] core::Result<amd::Layout> layout();
  [[nodiscard]] core::Result<std::shared_ptr<const Clocks>> clocks();
  [[nodiscard]] core::Status set_limits(core::Megahertz clock);
  [[nodiscard]] core::Status reset_to_auto();
  [[nodiscard]] core::Result<core::Watts> any_power();
  [[nodiscard]] core::Result<std::optional<core::Joules>> counter();
  [[nodiscard]] core::Result<EnergyReading> energy_source();
  [[nodiscard]] core::Result<Obstacle> obstacle();
  [[nodiscard]] core::Status explained(core::Error error);
  [[nodiscard]] std::unexpected<core::Error> nonsense(std::string_view what) const;

  AmdHost& host_;
  Identity identity_;
  amd::Handle handle_;    // guarded by the host's gate
  bool partitioned_;      // guarded by the host's gate
  bool missing_ = false;  // guarded by the host's gate
  std::mutex clocks_mutex_;
  std::shared_ptr<const Clocks> clocks_;
  std::mutex setting_mutex_;               // the two bounds are set as one
  std::optional<core::Megahertz> locked_;  // by us in opening locked_in_
  std::uint32_t locked_in_ = 0;
  // Counted by attach(), which may not wait for setting_mutex_: its owner may be waiting for the gate.
  std::atomic<std::uint32_t> openings_ = 0;
  std::mutex energy_mutex_;
  EnergyEpochs epochs_;
  std::optional<EnergyCrossCheck> check_;
  std::optional<bool> counter_trusted_;
  std::optional<std::uint32_t> meter_epoch_;
  std::unique_ptr<PowerMeter> meter_;  // last: its thread calls any_power()
};

}  // namespace perseus::gpu
