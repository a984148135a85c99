// SPDX-License-Identifier: Apache-2.0
//
// A GPU in the test's own memory that remembers what was done to it, fails when told to, and makes callers
// wait when told to. For what needs several processes there is the simulated driver instead.
//
//   FakeBackend backend(2);
//   FakeDevice& gpu = backend.device(0);
//   gpu.fail(Call::kLockClock, core::Error(core::ErrorCode::kPermission, "no"), 1);  // the next call only
//   gpu.hold(Call::kResetClock);                   // calls block ...
//   std::thread t([&] { (void)gpu.reset_clock(); });
//   gpu.wait_until_held(Call::kResetClock, 1);     // ... one is in there now ...
//   gpu.release(Call::kResetClock);                // ... and goes on
//   EXPECT_THAT(backend.history(), ElementsAre(Event{0, Call::kResetClock, {}, true}));
//
// All functions may be called by any thread.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/gpu/backend.h"
#include "perseus/gpu/device.h"

namespace perseus::tests {

/// A function of Device or Backend.
enum class Call : std::uint8_t {
  kSupportedClocks,
  kClockControl,
  kLockClock,
  kResetClock,
  kSmClock,
  kPower,
  kEnergy,
  kTemperature,
  kClockReasons,
  kUtilization,
  kEnforcedPowerLimit,
  kProcesses,
  kReopen,
  kClose,
};
inline constexpr std::size_t kCalls = 14;
[[nodiscard]] std::string_view call_name(Call call);

/// One call that has returned.
struct Event {
  std::uint32_t gpu = 0;  ///< 0 for kReopen and kClose
  Call call = Call::kSmClock;
  core::Megahertz clock;  ///< of kLockClock; else 0
  bool ok = true;
  friend bool operator==(const Event&, const Event&) = default;
};
std::ostream& operator<<(std::ostream& out, const Event& event);  // for GoogleTest

/// Fails always, until clear_failure().
inline constexpr std::uint32_t kForever = std::numeric_limits<std::uint32_t>::max();

/// The calls of one backend in the order of their return, and what is to go wrong. Shared by a backend and
/// its devices.
class FakeDriver {
 public:
  /// Waits while `call` is held for `gpu`, then answers with the failure that is due, if any. `record` is
  /// done by finish().
  [[nodiscard]] core::Status enter(std::uint32_t gpu, Call call);
  void finish(const Event& event);
  [[nodiscard]] std::vector<Event> history() const;
  void clear_history();

  void fail(std::uint32_t gpu, Call call, core::Error error, std::uint32_t times);
  void clear_failure(std::uint32_t gpu, Call call);
  void delay(std::uint32_t gpu, Call call, std::chrono::microseconds duration);
  void hold(std::uint32_t gpu, Call call);
  void release(std::uint32_t gpu, Call call);
  void wait_until_held(std::uint32_t gpu, Call call, std::uint32_t callers);

 private:
  struct Trouble {
    std::optional<core::Error> error;
    std::uint32_t times = 0;
    std::chrono::microseconds delay{0};
    bool held = false;
    std::uint32_t waiting = 0;
  };
  Trouble& trouble(std::uint32_t gpu, Call call);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::array<Trouble, kCalls>> troubles_;
  std::vector<Event> history_;
};

/// Clocks from 210 to 1410 MHz by 15 (an A100's), nothing locked, 90 W, 40 degrees, counter at 1 kJ.
class FakeDevice final : public gpu::Device {
 public:
  FakeDevice(std::shared_ptr<FakeDriver> driver, std::uint32_t index);

  // What a test sets and looks at.
  /// The clock locked at this moment; none if it is at the default.
  [[nodiscard]] std::optional<core::Megahertz> locked() const;
  /// Locks behind the back of Perseus, as another tool does; not in the history.
  void lock_from_outside(std::optional<core::Megahertz> clock);
  /// Fails the next `times` calls.
  void fail(Call call, core::Error error, std::uint32_t times = kForever);
  void clear_failure(Call call);
  /// Every call takes at least this long (it sleeps): for benchmarks. Tests use hold().
  void delay(Call call, std::chrono::microseconds duration);
  /// Calls block in here until release().
  void hold(Call call);
  void release(Call call);
  /// Returns when `callers` calls are blocked.
  void wait_until_held(Call call, std::uint32_t callers = 1);
  /// The momentary clock, whatever is locked, from now on; none: the locked clock, or the highest one.
  void set_sm_clock(std::optional<core::Megahertz> clock);
  void set_supported_clocks(std::vector<core::Megahertz> clocks);
  void set_clock_control(gpu::ClockControl control);
  void set_power(gpu::PowerReading power);
  void set_energy(gpu::EnergyReading energy);
  void set_temperature(core::Celsius temperature);
  void set_clock_reasons(gpu::ClockReasons reasons);
  void set_utilization(double utilization);
  void set_power_limit(core::Watts limit);
  void set_processes(std::vector<pid_t> processes);

  // Device.
  [[nodiscard]] const gpu::Identity& identity() const override { return identity_; }
  [[nodiscard]] core::Result<std::vector<core::Megahertz>> supported_clocks() override;
  [[nodiscard]] core::Result<gpu::ClockControl> clock_control() override;
  [[nodiscard]] core::Status lock_clock(core::Megahertz clock) override;
  [[nodiscard]] core::Status reset_clock() override;
  [[nodiscard]] core::Result<core::Megahertz> sm_clock() override;
  [[nodiscard]] core::Result<gpu::PowerReading> power() override;
  [[nodiscard]] core::Result<gpu::EnergyReading> energy() override;
  [[nodiscard]] core::Result<core::Celsius> temperature() override;
  [[nodiscard]] core::Result<gpu::ClockReasons> clock_reasons() override;
  [[nodiscard]] core::Result<double> utilization() override;
  [[nodiscard]] core::Result<core::Watts> enforced_power_limit() override;
  [[nodiscard]] core::Result<std::vector<pid_t>> processes() override;

 private:
  struct State {
    std::optional<core::Megahertz> locked;
    std::optional<core::Megahertz> forced;
    std::vector<core::Megahertz> clocks;
    gpu::ClockControl control{true, ""};
    gpu::PowerReading power{core::Watts{90}, core::Watts{90}};
    gpu::EnergyReading energy{core::Joules{1000}, gpu::EnergySource::kCounter, 0};
    core::Celsius temperature{40};
    gpu::ClockReasons reasons;
    double utilization = 0;
    core::Watts limit{400};
    std::vector<pid_t> processes;
  };

  template <class T, class Read>
  core::Result<T> read(Call call, Read&& value);
  template <class Change>
  void change(Change&& apply);

  std::shared_ptr<FakeDriver> driver_;
  gpu::Identity identity_;
  mutable std::mutex mutex_;
  State state_;
};

/// `gpus` FakeDevices. reopen() and close() are recorded and may be made to fail or hang like any other call
/// (of GPU 0); after close() devices answer as before: what a closed driver says is for fail().
class FakeBackend final : public gpu::Backend {
 public:
  explicit FakeBackend(std::uint32_t gpus);

  [[nodiscard]] FakeDevice& device(std::uint32_t index) { return *fakes_.at(index); }
  [[nodiscard]] std::vector<Event> history() const { return driver_->history(); }
  void clear_history() { driver_->clear_history(); }
  void fail_reopen(core::Error error, std::uint32_t times = kForever);

  [[nodiscard]] std::string_view name() const override { return "fake"; }
  [[nodiscard]] const std::string& driver_version() const override { return version_; }
  [[nodiscard]] const std::vector<gpu::Device*>& devices() const override { return devices_; }
  [[nodiscard]] core::Status reopen() override;
  void close() override;

 private:
  std::shared_ptr<FakeDriver> driver_ = std::make_shared<FakeDriver>();
  std::string version_ = "1.0 (fake)";
  std::vector<std::unique_ptr<FakeDevice>> fakes_;
  std::vector<gpu::Device*> devices_;
};

}  // namespace perseus::tests
