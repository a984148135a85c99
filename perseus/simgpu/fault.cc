// SPDX-License-Identifier: Apache-2.0
#include "perseus/simgpu/fault.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace perseus::simgpu {
namespace {

constexpr std::array<FaultInfo, kFaultKinds> kTable = {{
    {FaultKind::kLost, "lost", "",
     "The GPU fell off the bus: every call says so and work stops. Cleared: it was reset (no lock, counter "
     "from 0)."},
    {FaultKind::kPermission, "permission", "[=users]",
     "Setting calls are refused to everybody, with `=users` to all but root."},
    {FaultKind::kSlow, "slow", "=SECONDS", "Every call takes SECONDS more."},
    {FaultKind::kHang, "hang", "[=all]",
     "Setting calls, with `=all` every call, return only when this is cleared."},
    {FaultKind::kStuck, "stuck", "", "Setting calls succeed and the clock stays what it is."},
    {FaultKind::kThrottle, "throttle", "[=MHZ]",
     "The hardware is too hot and holds the clock to MHZ (default: half the top clock)."},
    {FaultKind::kPowerCap, "power_cap", "=WATTS",
     "A limit of WATTS from outside; it shows in the enforced limit."},
    {FaultKind::kMig, "mig", "", "MIG mode is on: clocks cannot be set and utilisation cannot be read."},
    {FaultKind::kVgpu, "vgpu", "", "A virtual GPU: clocks cannot be set."},
    {FaultKind::kNoEnergyCounter, "no_energy_counter", "", "The energy counter is not supported."},
    {FaultKind::kReload, "reload", "[=SECONDS]",
     "The driver is unloaded and is back after SECONDS (default 0), on the whole machine: callers must start "
     "NVML anew, "
     "locks are gone, energy counters start from 0."},
    {FaultKind::kCounterRestart, "counter_restart", "", "The energy counter starts from 0."},
}};

/// The word that stands for 1 as value of this fault, or empty.
std::string_view variant(FaultKind kind) {
  if (kind == FaultKind::kPermission) return "users";
  return kind == FaultKind::kHang ? "all" : "";
}

/// What the value must lie in; high 0: no value is allowed.
struct Range {
  double low = 0;
  double high = 0;
  bool required = false;
};

Range range_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::kSlow:
      return {1e-6, 3600, true};
    case FaultKind::kThrottle:
      return {1, 99'999, false};
    case FaultKind::kPowerCap:
      return {1, 1e5, true};
    case FaultKind::kReload:
      return {0, 3600, false};
    default:
      return {};
  }
}

const FaultInfo* find(std::string_view name) {
  for (const FaultInfo& row : kTable) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

std::unexpected<core::Error> unknown(std::string_view name) {
  std::string known;
  for (const FaultInfo& row : kTable) known += fmt::format(" {}", row.name);
  return core::fail(core::ErrorCode::kInvalidInput,
                    fmt::format("unknown fault \"{}\"; faults:{}", name, known));
}

core::Result<double> parse_value(const FaultInfo& row, std::string_view text) {
  const Range range = range_of(row.kind);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  const bool inside = value >= range.low && value <= range.high;  // NaN is not
  if (!is_number || !inside) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("fault {}: value \"{}\" is not a number from {} to {}", row.name, text,
                                  range.low, range.high));
  }
  return value;
}

}  // namespace

std::span<const FaultInfo> fault_table() {
  return kTable;
}

std::string_view fault_name(FaultKind kind) {
  return kTable.at(static_cast<std::size_t>(kind)).name;
}

core::Result<Fault> parse_fault(std::string_view text) {
  const std::size_t equals = text.find('=');
  const FaultInfo* row = find(text.substr(0, equals));
  if (row == nullptr) return unknown(text.substr(0, equals));
  const Range range = range_of(row->kind);
  if (equals == std::string_view::npos) {
    if (range.required) {
      return core::fail(core::ErrorCode::kInvalidInput,
                        fmt::format("fault {0} needs a value: {0}{1}", row->name, row->value));
    }
    return Fault{row->kind, 0};
  }
  const std::string_view value = text.substr(equals + 1);
  if (range.high > 0) {
    PERSEUS_ASSIGN_OR_RETURN(const double number, parse_value(*row, value));
    return Fault{row->kind, number};
  }
  if (!variant(row->kind).empty() && value == variant(row->kind)) return Fault{row->kind, 1};
  return core::fail(
      core::ErrorCode::kInvalidInput,
      variant(row->kind).empty()
          ? fmt::format("fault {} takes no value, got \"{}\"", row->name, value)
          : fmt::format("fault {}: value \"{}\" is not \"{}\"", row->name, value, variant(row->kind)));
}

core::Result<FaultKind> parse_fault_name(std::string_view name) {
  const FaultInfo* row = find(name);
  if (row == nullptr) return unknown(name);
  if (static_cast<std::size_t>(row->kind) >= kLastingFaults) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("fault {} happens once and cannot be cleared", row->name));
  }
  return row->kind;
}

std::string fault_text(const Fault& fault) {
  const std::string name(fault_name(fault.kind));
  if (!variant(fault.kind).empty())
    return fault.value != 0 ? name + "=" + std::string(variant(fault.kind)) : name;
  return fault.value != 0 ? fmt::format("{}={}", name, fault.value) : name;
}

}  // namespace perseus::simgpu
