// SPDX-License-Identifier: Apache-2.0
//
// What may go wrong with a simulated GPU, by name.
//
//   PERSEUS_ASSIGN_OR_RETURN(Fault fault, parse_fault("slow=0.5"));
//   PERSEUS_RETURN_IF_ERROR(node.inject(3, fault));
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::simgpu {

/// All faults. The first ones last until they are cleared; kReload and kCounterRestart happen once.
enum class FaultKind : std::uint8_t {
  kLost,        ///< fell off the bus: every call says so, work stops. Cleared = the GPU was reset
  kPermission,  ///< setting calls are refused: to everybody, or (value "users") to all but root
  kSlow,        ///< every call takes VALUE simulated seconds more
  kHang,        ///< setting calls (value "all": every call) do not return until this is cleared
  kStuck,       ///< setting calls succeed, and the clock stays what it is
  kThrottle,    ///< too hot, says the hardware: the clock is held to VALUE MHz (default: half the top clock)
  kPowerCap,    ///< an out-of-band limit of VALUE watts
  kMig,         ///< MIG mode is on: no clock control, no utilisation
  kVgpu,        ///< a virtual GPU: no clock control
  kNoEnergyCounter,  ///< the driver has no energy counter for this product
  kReload,  ///< the driver is unloaded and comes back VALUE simulated seconds later (default 0): the whole
            ///< machine
  kCounterRestart,  ///< the energy counter starts again from 0
};
inline constexpr std::size_t kFaultKinds = 12;
/// The first so many last; the rest happen once.
inline constexpr std::size_t kLastingFaults = 10;

/// One row of the documentation.
struct FaultInfo {
  FaultKind kind = FaultKind::kLost;
  std::string_view name;     ///< as in `perseus sim fault --gpu I NAME`
  std::string_view value;    ///< what may or must follow the name, e.g. "[=MHZ]", or empty
  std::string_view meaning;  ///< one sentence
};

/// All rows, in the order of the enum.
[[nodiscard]] std::span<const FaultInfo> fault_table();
[[nodiscard]] std::string_view fault_name(FaultKind kind);

/// A fault with its value: 0 where none was given. For kPermission and kHang 1 means the variant "users" /
/// "all".
struct Fault {
  FaultKind kind = FaultKind::kLost;
  double value = 0;
};

/// Reads "NAME" or "NAME=VALUE". kInvalidInput names the faults, or the values that are allowed.
[[nodiscard]] core::Result<Fault> parse_fault(std::string_view text);
/// Reads a bare NAME of a lasting fault.
[[nodiscard]] core::Result<FaultKind> parse_fault_name(std::string_view name);
/// The opposite of parse_fault().
[[nodiscard]] std::string fault_text(const Fault& fault);

}  // namespace perseus::simgpu
