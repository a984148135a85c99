// SPDX-License-Identifier: Apache-2.0
//
// One GPU as Perseus sees it, whatever its vendor: what it is, what it does at this moment, and the one thing
// that Perseus may change, its graphics clock.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto backend, open_backend({.kind = BackendKind::kAuto}));
//   PERSEUS_ASSIGN_OR_RETURN(Device* device, find_device(*backend, 0));
//   PERSEUS_RETURN_IF_ERROR(device->lock_clock(Megahertz{900}));
//   ...
//   PERSEUS_RETURN_IF_ERROR(device->reset_clock());
//
// Nothing here remembers or restores a clock: that is perseus/lease. The memory clock and the power limit are
// not ours to set (invariant I4), so there is no function for them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"

namespace perseus::gpu {

/// What names a device. `index` is the backend's own order and may change with a reboot; `uuid` does not.
struct Identity {
  std::uint32_t index = 0;
  std::string uuid;  ///< "GPU-xxxxxxxx-xxxx-..." for NVIDIA; ASCII letters, digits and '-', at most 96 bytes
  std::string pci_bus_id;  ///< "00000000:3B:00.0"
  std::string name;        ///< the product's name as its vendor writes it
};

/// Why a clock is what it is. The bits have NVML's meaning (nvml.h, nvmlClocksEventReasons) with values of
/// our own; other vendors' reasons are mapped to them. Unknown bits of a driver are dropped.
enum class ClockReason : std::uint32_t {
  kIdle = 1U << 0,               ///< nothing runs
  kApplicationClocks = 1U << 1,  ///< limited by the application clock setting
  kPowerCap = 1U << 2,           ///< the software power cap
  kHardwareSlowdown = 1U << 3,   ///< hardware slowdown (temperature, power brake, or voltage)
  kSyncBoost = 1U << 4,          ///< grouped with a slower GPU
  kSoftwareThermal = 1U << 5,    ///< too hot, slowed by software
  kHardwareThermal = 1U << 6,    ///< too hot, slowed by hardware
  kPowerBrake = 1U << 7,         ///< external power brake
  kDisplay = 1U << 8,            ///< limited by the display clock
};

/// A set of ClockReason bits.
class ClockReasons {
 public:
  constexpr ClockReasons() = default;
  constexpr explicit ClockReasons(std::uint32_t bits) : bits_(bits) {}
  [[nodiscard]] constexpr bool has(ClockReason reason) const {
    return (bits_ & static_cast<std::uint32_t>(reason)) != 0;
  }
  constexpr void add(ClockReason reason) { bits_ |= static_cast<std::uint32_t>(reason); }
  [[nodiscard]] constexpr std::uint32_t bits() const { return bits_; }
  /// Whether something other than idling, a setting or the display holds the clock down: power or heat.
  [[nodiscard]] constexpr bool throttled() const {
    return has(ClockReason::kPowerCap) || has(ClockReason::kHardwareSlowdown) ||
           has(ClockReason::kSyncBoost) || has(ClockReason::kSoftwareThermal) ||
           has(ClockReason::kHardwareThermal) || has(ClockReason::kPowerBrake);
  }
  friend constexpr bool operator==(ClockReasons, ClockReasons) = default;

 private:
  std::uint32_t bits_ = 0;
};

/// Where an energy reading comes from.
enum class EnergySource : std::uint8_t {
  kCounter,     ///< the device's own counter
  kIntegrated,  ///< power samples added up by the backend: coarser, and blind between samples
};

/// Energy since an arbitrary moment. Only differences mean something, and only between readings of the same
/// `epoch`.
struct EnergyReading {
  core::Joules total;
  EnergySource source = EnergySource::kCounter;
  std::uint32_t epoch =
      0;  ///< counts restarts of the counter (driver reload); a delta across epochs is to be dropped
};

/// Power now. Which of the two a product offers is a property of its driver (RELIABILITY.md 6).
struct PowerReading {
  std::optional<core::Watts> momentary;
  std::optional<core::Watts> averaged;  ///< over about a second
};

/// Whether clocks can be set, and if not why. Reading works in either case.
struct ClockControl {
  bool possible = false;
  std::string reason;  ///< one sentence for a person; empty if possible
};

/// One device. Owned by the Backend that made it, which must outlive it. All functions may block for as long
/// as the driver does (milliseconds usually, minutes when it hangs): never call them from a thread that
/// others wait for. Functions of one device may be called by several threads at a time.
///
/// Errors of all functions: kDeviceLost (the GPU fell off the bus; it stays lost until the backend is
/// re-opened), kDriver (the driver was unloaded or answers with something that may pass: re-open and try
/// again), kPermission, kUnsupported (this product or driver does not do it), kTimeout (a command override
/// ran too long).
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  [[nodiscard]] virtual const Identity& identity() const = 0;
  /// Graphics clocks that may be locked at the highest memory clock, ascending, without repetition; never
  /// empty.
  [[nodiscard]] virtual core::Result<std::vector<core::Megahertz>> supported_clocks() = 0;
  /// What stands against setting clocks: MIG, a virtual GPU, no symbol, no permission as far as it can be
  /// known beforehand. Asks the driver; does not set anything.
  [[nodiscard]] virtual core::Result<ClockControl> clock_control() = 0;

  /// Locks the graphics clock to exactly `clock`, which must be one of supported_clocks() (kInvalidInput
  /// otherwise, naming the nearest two: nothing is snapped silently). Success means that the driver said so;
  /// the clock itself follows milliseconds later, or not at all (see sm_clock()). A lock cannot be read back.
  [[nodiscard]] virtual core::Status lock_clock(core::Megahertz clock) = 0;
  /// Back to the driver's default. Succeeds where nothing was locked.
  [[nodiscard]] virtual core::Status reset_clock() = 0;

  /// The momentary SM clock. Low while the GPU idles, whatever is locked.
  [[nodiscard]] virtual core::Result<core::Megahertz> sm_clock() = 0;
  [[nodiscard]] virtual core::Result<PowerReading> power() = 0;
  [[nodiscard]] virtual core::Result<EnergyReading> energy() = 0;
  [[nodiscard]] virtual core::Result<core::Celsius> temperature() = 0;
  [[nodiscard]] virtual core::Result<ClockReasons> clock_reasons() = 0;
  /// Share of the last sampling period in which a kernel ran, 0 to 1.
  [[nodiscard]] virtual core::Result<double> utilization() = 0;
  /// The least of all power limits, out-of-band ones included.
  [[nodiscard]] virtual core::Result<core::Watts> enforced_power_limit() = 0;
  /// Processes with a compute context on this device, as pids of the caller's pid namespace where the driver
  /// knows them.
  [[nodiscard]] virtual core::Result<std::vector<pid_t>> processes() = 0;
};

}  // namespace perseus::gpu
