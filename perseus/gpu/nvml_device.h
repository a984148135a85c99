// SPDX-License-Identifier: Apache-2.0
//
// One NVIDIA GPU through NVML. Private to the NVML backend.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/gpu/device.h"
#include "perseus/gpu/energy_meter.h"
#include "perseus/gpu/nvml_library.h"
#include "perseus/gpu/time_source.h"

namespace perseus::gpu {

/// What the backend and its devices share: the library, while there is one. Every call into the library holds
/// `gate` shared; loading and unloading hold it alone. Readers are preferred (std::shared_mutex on glibc), so
/// a call that hangs keeps a re-opening waiting but not the other devices.
struct NvmlHost {
  std::shared_mutex gate;
  std::unique_ptr<NvmlLibrary> library;       ///< none while closed
  std::string closed_because = "not opened";  ///< why there is none
  TimeSource* time = &steady_time();          ///< of integrated power; injected by tests
  bool needs_privilege = true;                ///< false for a simulated driver, which asks for no capability
};

/// Thread-safe, except attach() and mark_missing(), which the backend calls while it holds the gate alone.
class NvmlDevice final : public Device {
 public:
  NvmlDevice(NvmlHost& host, Identity identity, nvml::Handle handle)
      : host_(host), identity_(std::move(identity)), handle_(handle) {}

  /// The driver has been opened again and knows this GPU under `handle`.
  void attach(nvml::Handle handle);
  /// The driver has been opened again and does not know this GPU any more.
  void mark_missing();

  [[nodiscard]] const Identity& identity() const override { return identity_; }
  [[nodiscard]] core::Result<std::vector<core::Megahertz>> supported_clocks() override;
  [[nodiscard]] core::Result<ClockControl> clock_control() override;
  [[nodiscard]] core::Status lock_clock(core::Megahertz clock) override;
  [[nodiscard]] core::Status reset_clock() override;
  [[nodiscard]] core::Result<core::Megahertz> sm_clock() override;
  [[nodiscard]] core::Result<PowerReading> power() override;
  [[nodiscard]] core::Result<EnergyReading> energy() override;
  [[nodiscard]] core::Result<core::Celsius> temperature() override;
  [[nodiscard]] core::Result<ClockReasons> clock_reasons() override;
  [[nodiscard]] core::Result<double> utilization() override;
  [[nodiscard]] core::Result<core::Watts> enforced_power_limit() override;
  [[nodiscard]] core::Result<std::vector<pid_t>> processes() override;

 private:
  using Clocks = std::vector<core::Megahertz>;
  /// What stands against setting clocks; an empty reason if nothing does.
  struct Obstacle {
    core::ErrorCode code = core::ErrorCode::kUnsupported;
    std::string reason;
  };

  /// Calls `function` of the library with this device's handle and `arguments`.
  template <class F, class... Arguments>
  [[nodiscard]] core::Status call(NvmlFunction<F> NvmlApi::* function, Arguments... arguments);
  /// The same where `accepted` is an answer too; gives the code.
  template <class F, class... Arguments>
  [[nodiscard]] core::Result<nvml::Return> call_accepting(nvml::Return accepted,
                                                          NvmlFunction<F> NvmlApi::* function,
                                                          Arguments... arguments);
  /// Whether calls can be made at all. Needs the gate.
  [[nodiscard]] core::Status ready() const;
  /// The same, taking the gate.
  [[nodiscard]] core::Status still_ready() const;
  template <class F>
  [[nodiscard]] bool has(NvmlFunction<F> NvmlApi::* function) const;
  /// Runs NVML's protocol for a list of unknown length; arguments of the function before the count go first.
  template <class T, class F, class... Arguments>
  [[nodiscard]] core::Result<std::vector<T>> list(NvmlFunction<F> NvmlApi::* function,
                                                  Arguments... arguments);

  [[nodiscard]] core::Result<std::shared_ptr<const Clocks>> clocks();
  [[nodiscard]] core::Result<std::optional<PowerReading>> power_by_fields();
  [[nodiscard]] core::Result<PowerReading> power_by_usage();
  [[nodiscard]] core::Result<core::Watts> any_power();
  [[nodiscard]] core::Result<EnergyReading> energy_source();
  [[nodiscard]] core::Result<Obstacle> obstacle();
  [[nodiscard]] core::Status explained(core::Error error);
  [[nodiscard]] std::unexpected<core::Error> nonsense(std::string_view what) const;

  NvmlHost& host_;
  Identity identity_;
  nvml::Handle handle_;                              // guarded by the host's gate
  std::atomic<nvml::Return> lost_ = nvml::kSuccess;  // the code that said so
  std::mutex clocks_mutex_;
  std::shared_ptr<const Clocks> clocks_;  // asked for once per opening
  std::mutex energy_mutex_;               // taking a reading and noting it, in one order
  EnergyEpochs epochs_;
  PowerMeter meter_{[this] { return any_power(); }, *host_.time};
};

}  // namespace perseus::gpu
