// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/nvml_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "perseus/gpu/clock_table.h"
#include "perseus/gpu/privilege.h"
#include "perseus/gpu/vendor_units.h"

namespace perseus::gpu {

using core::ErrorCode;

namespace {

/// Longest list that is believed: a driver that claims more is broken. Clocks number some hundred, processes
/// some thousand.
constexpr unsigned kMaxList = 1U << 16U;
/// A list may grow between two calls; so often is it asked for again.
constexpr int kListTries = 8;
/// No product comes near these; a driver that says so answers nonsense (all bits set, say).
constexpr core::Watts kMaxPower{20'000};
constexpr core::Megahertz kMaxClock{20'000};
constexpr unsigned kMaxCelsius = 250;

/// Bits of nvmlClocksEventReasons (nvml.h) and ours.
constexpr std::array<std::pair<unsigned long long, ClockReason>, 9> kReasons = {{
    {0x001, ClockReason::kIdle},
    {0x002, ClockReason::kApplicationClocks},
    {0x004, ClockReason::kPowerCap},
    {0x008, ClockReason::kHardwareSlowdown},
    {0x010, ClockReason::kSyncBoost},
    {0x020, ClockReason::kSoftwareThermal},
    {0x040, ClockReason::kHardwareThermal},
    {0x080, ClockReason::kPowerBrake},
    {0x100, ClockReason::kDisplay},
}};

/// Whether the GPU is gone for good. NVML_ERROR_NOT_FOUND is not among these: it may also mean what was asked
/// for.
bool is_lost(nvml::Return code) {
  return code == nvml::kGpuIsLost || code == nvml::kResetRequired || code == nvml::kGpuNotFound;
}

std::optional<core::Watts> field_power(const nvml::FieldValue& field) {
  if (field.result != nvml::kSuccess) return std::nullopt;
  std::uint64_t milliwatts = 0;
  switch (field.value_type) {
    case nvml::kValueUnsignedInt:
      milliwatts = field.value.as_unsigned;
      break;
    case nvml::kValueUnsignedLong:
      milliwatts = field.value.as_unsigned_long;
      break;
    case nvml::kValueUnsignedLongLong:
      milliwatts = field.value.as_unsigned_long_long;
      break;
    default:
      return std::nullopt;
  }
  const core::Watts power = from_milliwatts(milliwatts);
  return power <= kMaxPower ? std::optional(power) : std::nullopt;
}

}  // namespace

void NvmlDevice::attach(nvml::Handle handle) {
  handle_ = handle;
  lost_ = nvml::kSuccess;
  const std::lock_guard lock(clocks_mutex_);
  clocks_.reset();
}

void NvmlDevice::mark_missing() {
  handle_ = nullptr;
  lost_ = nvml::kNotFound;
}

core::Status NvmlDevice::ready() const {
  if (host_.library == nullptr) {
    return core::fail(ErrorCode::kDriver, fmt::format("{}: {}", describe(identity_), host_.closed_because));
  }
  if (const nvml::Return code = lost_; code == nvml::kNotFound) {
    return core::fail(ErrorCode::kDeviceLost,
                      fmt::format("{}: the driver does not show it any more", describe(identity_)));
  } else if (code != nvml::kSuccess) {
    return core::fail(
        ErrorCode::kDeviceLost,
        fmt::format("{}: lost (NVML error {}) until the driver is opened again", describe(identity_), code));
  }
  return {};
}

core::Status NvmlDevice::still_ready() const {
  const std::shared_lock lock(host_.gate);
  return ready();
}

template <class F, class... Arguments>
core::Result<nvml::Return> NvmlDevice::call_accepting(nvml::Return accepted,
                                                      NvmlFunction<F> NvmlApi::* function,
                                                      Arguments... arguments) {
  const std::shared_lock lock(host_.gate);
  PERSEUS_RETURN_IF_ERROR(ready());
  const NvmlFunction<F>& f = host_.library->api().*function;
  if (!f) {
    return core::fail(ErrorCode::kUnsupported, fmt::format("{}: driver {} has no {}", describe(identity_),
                                                           host_.library->driver_version(), f.name));
  }
  const nvml::Return code = f.call(handle_, arguments...);
  if (code == nvml::kSuccess || code == accepted) return code;
  if (is_lost(code)) lost_ = code;
  PERSEUS_RETURN_IF_ERROR(host_.library->check(code, f.name, describe(identity_)));
  return code;
}

template <class F, class... Arguments>
core::Status NvmlDevice::call(NvmlFunction<F> NvmlApi::* function, Arguments... arguments) {
  PERSEUS_RETURN_IF_ERROR(call_accepting(nvml::kSuccess, function, arguments...));
  return {};
}

template <class F>
bool NvmlDevice::has(NvmlFunction<F> NvmlApi::* function) const {
  const std::shared_lock lock(host_.gate);
  return host_.library != nullptr && bool{host_.library->api().*function};
}

std::unexpected<core::Error> NvmlDevice::nonsense(std::string_view what) const {
  return core::fail(ErrorCode::kDriver,
                    fmt::format("{}: the driver answers {}, which cannot be", describe(identity_), what));
}

template <class T, class F, class... Arguments>
core::Result<std::vector<T>> NvmlDevice::list(NvmlFunction<F> NvmlApi::* function, Arguments... arguments) {
  unsigned size = 128;
  for (int attempt = 0; attempt < kListTries && size <= kMaxList; ++attempt) {
    std::vector<T> items(size);
    unsigned count = size;
    PERSEUS_ASSIGN_OR_RETURN(const nvml::Return code, call_accepting(nvml::kInsufficientSize, function,
                                                                     arguments..., &count, items.data()));
    if (code == nvml::kSuccess) {
      if (count > size) return nonsense(fmt::format("with {} list items where {} have room", count, size));
      items.resize(count);
      return items;
    }
    // Some room for what comes in between; twice as much where the driver does not say how much it needs.
    constexpr unsigned kMore = 16;
    size = count > size && count <= kMaxList ? count + kMore : 2 * size;
  }
  return nonsense(fmt::format("with a list that no room is large enough for ({} items at last)", size));
}

core::Result<std::shared_ptr<const NvmlDevice::Clocks>> NvmlDevice::clocks() {
  {
    const std::lock_guard lock(clocks_mutex_);
    if (clocks_ != nullptr) return clocks_;
  }
  PERSEUS_ASSIGN_OR_RETURN(const auto memory, list<unsigned>(&NvmlApi::memory_clocks));
  if (memory.empty()) return nonsense("with no memory clock");
  auto graphics = list<unsigned>(&NvmlApi::graphics_clocks, *std::ranges::max_element(memory));
  if (!graphics) {
    const bool unknown = graphics.error().code() == ErrorCode::kDeviceLost && lost_ == nvml::kSuccess;
    if (unknown) return nonsense("that it does not know its own memory clock");
    return std::unexpected(std::move(graphics).error());
  }
  Clocks found;
  for (const unsigned mhz : *graphics) {
    if (core::Megahertz(mhz) <= kMaxClock) found.emplace_back(mhz);
  }
  found = tidy_clocks(std::move(found));
  if (found.empty()) return nonsense("with no graphics clock");
  const std::lock_guard lock(clocks_mutex_);
  clocks_ = std::make_shared<const Clocks>(std::move(found));
  return clocks_;
}

core::Result<std::vector<core::Megahertz>> NvmlDevice::supported_clocks() {
  PERSEUS_ASSIGN_OR_RETURN(const auto known, clocks());
  return *known;
}

core::Result<NvmlDevice::Obstacle> NvmlDevice::obstacle() {
  {
    const std::shared_lock lock(host_.gate);
    PERSEUS_RETURN_IF_ERROR(ready());
    const NvmlApi& api = host_.library->api();
    const char* missing = !api.set_locked_clocks     ? api.set_locked_clocks.name
                          : !api.reset_locked_clocks ? api.reset_locked_clocks.name
                                                     : nullptr;
    if (missing != nullptr) {
      return Obstacle{ErrorCode::kUnsupported,
                      fmt::format("driver {} has no {}", host_.library->driver_version(), missing)};
    }
  }
  unsigned mig = 0;
  unsigned pending = 0;
  if (call(&NvmlApi::mig_mode, &mig, &pending) && mig == nvml::kMigEnabled) {
    return Obstacle{ErrorCode::kUnsupported,
                    "MIG is enabled, and the driver locks no clock of a partitioned GPU"};
  }
  int mode = nvml::kVirtualizationNone;
  if (call(&NvmlApi::virtualization_mode, &mode)) {
    if (mode == nvml::kVirtualizationVgpu) {
      return Obstacle{ErrorCode::kUnsupported,
                      "this is a virtual GPU (vGPU): its clocks belong to the machine that hosts it"};
    }
    if (mode == nvml::kVirtualizationHostVgpu || mode == nvml::kVirtualizationHostVsga) {
      return Obstacle{ErrorCode::kUnsupported,
                      "this GPU is shared out to virtual machines, whose clocks Perseus does not touch"};
    }
  }
  PERSEUS_RETURN_IF_ERROR(still_ready());  // or was it lost in one of the two calls above?
  if (host_.needs_privilege && !has_system_administration()) {
    return Obstacle{
        ErrorCode::kPermission,
        "setting clocks needs the capability CAP_SYS_ADMIN, which this process lacks; let `perseus "
        "agent` do it"};
  }
  return Obstacle{};
}

core::Result<ClockControl> NvmlDevice::clock_control() {
  PERSEUS_ASSIGN_OR_RETURN(auto found, obstacle());
  return ClockControl{.possible = found.reason.empty(), .reason = std::move(found.reason)};
}

/// A refusal of a clock, with the reason where one can be found.
core::Status NvmlDevice::explained(core::Error error) {
  if (error.code() == ErrorCode::kDeviceLost || error.code() == ErrorCode::kDriver) {
    return std::unexpected(std::move(error));
  }
  const auto found = obstacle();
  if (!found || found->reason.empty()) return std::unexpected(std::move(error));
  return core::fail(found->code, fmt::format("{}: {}", describe(identity_), found->reason));
}

core::Status NvmlDevice::lock_clock(core::Megahertz clock) {
  PERSEUS_ASSIGN_OR_RETURN(const auto known, clocks());
  PERSEUS_RETURN_IF_ERROR(check_clock(*known, clock, identity_));
  auto status = call(&NvmlApi::set_locked_clocks, unsigned{clock.value()}, unsigned{clock.value()});
  return status ? status : explained(std::move(status).error());
}

core::Status NvmlDevice::reset_clock() {
  auto status = call(&NvmlApi::reset_locked_clocks);
  return status ? status : explained(std::move(status).error());
}

core::Result<core::Megahertz> NvmlDevice::sm_clock() {
  unsigned mhz = 0;
  PERSEUS_RETURN_IF_ERROR(call(&NvmlApi::clock, nvml::kClockSm, &mhz));
  const core::Megahertz clock(mhz);
  if (clock > kMaxClock) return nonsense(fmt::format("an SM clock of {} MHz", mhz));
  return clock;
}

core::Result<std::optional<PowerReading>> NvmlDevice::power_by_fields() {
  std::array<nvml::FieldValue, 2> fields{};
  fields[0].field = nvml::kFieldPowerInstant;
  fields[1].field = nvml::kFieldPowerAverage;
  for (auto& field : fields) field.result = nvml::kNotSupported;
  auto status = call(&NvmlApi::field_values, static_cast<int>(fields.size()), fields.data());
  if (!status && status.error().code() != ErrorCode::kUnsupported) {
    return std::unexpected(std::move(status).error());
  }
  const PowerReading reading{.momentary = field_power(fields[0]), .averaged = field_power(fields[1])};
  if (!reading.momentary && !reading.averaged) return std::nullopt;
  return reading;
}

core::Result<PowerReading> NvmlDevice::power_by_usage() {
  unsigned milliwatts = 0;
  PERSEUS_RETURN_IF_ERROR(call(&NvmlApi::power_usage, &milliwatts));
  const core::Watts power = from_milliwatts(milliwatts);
  if (power > kMaxPower) return nonsense(fmt::format("a power of {} W", power.value()));
  // nvml.h, nvmlDeviceGetPowerUsage: momentary up to GA100 (compute capability 8.0), averaged over 1 s after
  // it.
  int major = 0;
  int minor = 0;
  const bool known = call(&NvmlApi::compute_capability, &major, &minor).has_value();
  const bool averaged = known && (major > 8 || (major == 8 && minor > 0));
  return averaged ? PowerReading{.momentary = std::nullopt, .averaged = power}
                  : PowerReading{.momentary = power, .averaged = std::nullopt};
}

core::Result<PowerReading> NvmlDevice::power() {
  PERSEUS_ASSIGN_OR_RETURN(const auto fields, power_by_fields());
  if (fields) return *fields;
  return power_by_usage();
}

core::Result<core::Watts> NvmlDevice::any_power() {
  PERSEUS_ASSIGN_OR_RETURN(const auto reading, power());
  return reading.momentary ? *reading.momentary : reading.averaged.value_or(core::Watts{});
}

core::Result<EnergyReading> NvmlDevice::energy_source() {
  unsigned long long millijoules = 0;
  auto status = call(&NvmlApi::energy, &millijoules);
  if (status) return EnergyReading{.total = from_millijoules(millijoules), .source = EnergySource::kCounter};
  if (status.error().code() != ErrorCode::kUnsupported) return std::unexpected(std::move(status).error());
  return meter_.read();
}

core::Result<EnergyReading> NvmlDevice::energy() {
  const std::lock_guard lock(energy_mutex_);
  PERSEUS_ASSIGN_OR_RETURN(const auto reading, energy_source());
  return epochs_.note(reading);
}

core::Result<core::Celsius> NvmlDevice::temperature() {
  nvml::Temperature reading{
      .version = nvml::kTemperatureVersion1, .sensor = nvml::kTemperatureGpu, .celsius = 0};
  auto newest = call(&NvmlApi::temperature_v, &reading);
  if (newest) return core::Celsius(reading.celsius);
  if (newest.error().code() != ErrorCode::kUnsupported || !has(&NvmlApi::temperature)) {
    return std::unexpected(std::move(newest).error());
  }
  unsigned celsius = 0;
  PERSEUS_RETURN_IF_ERROR(call(&NvmlApi::temperature, nvml::kTemperatureGpu, &celsius));
  if (celsius > kMaxCelsius) return nonsense(fmt::format("a temperature of {} degrees", celsius));
  return core::Celsius(celsius);
}

core::Result<ClockReasons> NvmlDevice::clock_reasons() {
  unsigned long long bits = 0;
  PERSEUS_RETURN_IF_ERROR(call(&NvmlApi::reasons, &bits));
  ClockReasons reasons;
  for (const auto& [bit, reason] : kReasons) {
    if ((bits & bit) != 0) reasons.add(reason);
  }
  return reasons;
}

core::Result<double> NvmlDevice::utilization() {
  nvml::Utilization percent{};
  PERSEUS_RETURN_IF_ERROR(call(&NvmlApi::utilization, &percent));
  const double share = from_percent(percent.gpu);
  if (share > 1) return nonsense(fmt::format("a utilization of {} per cent", percent.gpu));
  return share;
}

core::Result<core::Watts> NvmlDevice::enforced_power_limit() {
  unsigned milliwatts = 0;
  PERSEUS_RETURN_IF_ERROR(call(&NvmlApi::enforced_power_limit, &milliwatts));
  const core::Watts limit = from_milliwatts(milliwatts);
  if (limit > kMaxPower) return nonsense(fmt::format("a power limit of {} W", limit.value()));
  return limit;
}

core::Result<std::vector<pid_t>> NvmlDevice::processes() {
  std::vector<pid_t> pids;
  const auto add = [&pids](const auto& infos) {
    for (const auto& info : infos) {
      if (info.pid > 0 && std::in_range<pid_t>(info.pid)) pids.push_back(static_cast<pid_t>(info.pid));
    }
  };
  if (has(&NvmlApi::processes) || !has(&NvmlApi::processes_v1)) {
    PERSEUS_ASSIGN_OR_RETURN(const auto infos, list<nvml::ProcessInfo>(&NvmlApi::processes));
    add(infos);
  } else {
    PERSEUS_ASSIGN_OR_RETURN(const auto infos, list<nvml::ProcessInfoV1>(&NvmlApi::processes_v1));
    add(infos);
  }
  // Under MPS the first list shows the MPS server alone; its clients stand in a list of their own.
  if (has(&NvmlApi::mps_processes)) {
    auto clients = list<nvml::ProcessInfo>(&NvmlApi::mps_processes);
    if (clients) add(*clients);
    if (!clients && clients.error().code() == ErrorCode::kDeviceLost) return std::unexpected(clients.error());
  }
  std::ranges::sort(pids);
  const auto repeated = std::ranges::unique(pids);
  pids.erase(repeated.begin(), repeated.end());
  return pids;
}

}  // namespace perseus::gpu
