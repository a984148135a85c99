// SPDX-License-Identifier: Apache-2.0
//
// A way to reach the GPUs of this machine: NVML, AMD SMI, a simulated driver, or a command that the site has
// blessed. Vendor libraries are loaded at run time; none is needed to build or to start.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/gpu/device.h"

namespace perseus::gpu {

/// `--backend` of every command.
enum class BackendKind : std::uint8_t {
  kAuto,  ///< the first of nvml and amd that loads and shows a device
  kNvml,  ///< libnvidia-ml.so.1, as the loader finds it
  kAmd,   ///< libamd_smi.so
  kSim,  ///< the NVML backend on the simulated driver that `perseus sim create` made ($PERSEUS_SIM_NVML names
         ///< it)
  kCommand,  ///< clocks set by a command of the site, everything else read by nvml (or the simulated driver)
};

/// "auto", "nvml", "amd", "sim", "command"; kUsage with the list otherwise.
[[nodiscard]] core::Result<BackendKind> parse_backend(std::string_view name);
[[nodiscard]] std::string_view backend_name(BackendKind kind);

/// The command override (RELIABILITY.md 2): a fixed argv, run without a shell and with an empty environment
/// but PATH.
/// "{gpu}" "{uuid}" "{mhz}" in an argument of their own are replaced. The file must be absolute, a regular
/// file owned by root (or by the own user where that is not root) and writable by nobody else; checked before
/// each run.
struct CommandOverride {
  std::vector<std::string> lock;                 ///< e.g. {"/opt/site/gpuclock", "lock", "{uuid}", "{mhz}"}
  std::vector<std::string> reset;                ///< e.g. {"/opt/site/gpuclock", "reset", "{uuid}"}
  std::chrono::milliseconds time_limit{10'000};  ///< then it is killed: kTimeout. 10 s: assumed
};

struct BackendOptions {
  BackendKind kind = BackendKind::kAuto;
  std::string library;      ///< another path of the vendor's library; empty: the usual name
  CommandOverride command;  ///< for kCommand
};

/// All devices of one vendor library. Not thread-safe by itself; the devices are.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  /// "nvml", "amd", "sim" or "command".
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// The driver's version as it writes it.
  [[nodiscard]] virtual const std::string& driver_version() const = 0;
  /// All devices that can be read, by index (which may have gaps: see unreadable() and find_device()).
  /// Pointers stay valid until the backend goes: a device that is lost answers kDeviceLost. reopen() may add
  /// devices.
  [[nodiscard]] virtual const std::vector<Device*>& devices() const = 0;
  /// GPUs that the driver counts but does not let us look at, one error each: lost before we came, or barred.
  [[nodiscard]] virtual std::vector<core::Error> unreadable() const { return {}; }
  /// Shuts the library down and starts it again (the driver was reloaded, a GPU was reset). Devices keep
  /// their identity by UUID; each one's energy epoch moves on if its counter restarted. kDriver: still not
  /// there; try later. Waits until calls in progress return.
  [[nodiscard]] virtual core::Status reopen() = 0;
  /// Lets go of the GPUs (file descriptors included) until reopen(): an operator wants to reset one. Devices
  /// answer kDriver meanwhile.
  virtual void close() = 0;
};

/// Opens a backend and enumerates its devices. kNotFound: no such library, with where it was looked for;
/// kDriver: it loads but does not start, with the driver's own words; kUnsupported: its version is one that
/// we do not know.
[[nodiscard]] core::Result<std::unique_ptr<Backend>> open_backend(const BackendOptions& options);

/// The device with this index (`--gpu`); kNotFound with those that there are.
[[nodiscard]] core::Result<Device*> find_device(const Backend& backend, std::uint32_t index);

}  // namespace perseus::gpu
