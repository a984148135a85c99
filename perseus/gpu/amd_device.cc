// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/amd_device.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "perseus/gpu/clock_table.h"
#include "perseus/gpu/vendor_units.h"

namespace perseus::gpu {

using core::ErrorCode;

namespace {

/// As for NVML: more than any product or machine has.
constexpr std::uint32_t kMaxList = 1U << 16U;
constexpr int kListTries = 8;
constexpr core::Watts kMaxPower{20'000};
constexpr std::uint32_t kMaxClockMhz = 20'000;

std::uint32_t number_at(const amd::AnyStructure& structure, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, structure.bytes + offset, sizeof(value));
  return value;
}

}  // namespace

void AmdDevice::attach(amd::Handle handle, bool partitioned) {
  handle_ = handle;
  partitioned_ = partitioned;
  missing_ = false;
  ++openings_;  // another program may have set something meanwhile: locked_ says nothing any more
  const std::lock_guard lock(clocks_mutex_);
  clocks_.reset();
}

void AmdDevice::mark_missing() {
  handle_ = nullptr;
  missing_ = true;
}

core::Status AmdDevice::ready() const {
  if (host_.library == nullptr) {
    return core::fail(ErrorCode::kDriver, fmt::format("{}: {}", describe(identity_), host_.closed_because));
  }
  if (missing_) {
    return core::fail(ErrorCode::kDeviceLost,
                      fmt::format("{}: the driver does not show it any more", describe(identity_)));
  }
  return {};
}

template <class F, class... Arguments>
core::Result<amd::Status> AmdDevice::call_accepting(amd::Status accepted, AmdFunction<F> AmdApi::* function,
                                                    Arguments... arguments) {
  const std::shared_lock lock(host_.gate);
  PERSEUS_RETURN_IF_ERROR(ready());
  const AmdFunction<F>& f = host_.library->api().*function;
  if (!f) {
    return core::fail(ErrorCode::kUnsupported, fmt::format("{}: AMD SMI {} has no {}", describe(identity_),
                                                           host_.library->version(), f.name));
  }
  std::unique_lock one_at_a_time(host_.serial, std::defer_lock);
  if (!host_.library->is_thread_safe()) one_at_a_time.lock();
  const amd::Status answer = f.call(handle_, arguments...);
  if (answer == amd::kSuccess || answer == accepted) return answer;
  PERSEUS_RETURN_IF_ERROR(host_.library->check(answer, f.name, describe(identity_)));
  return answer;
}

template <class F, class... Arguments>
core::Status AmdDevice::call(AmdFunction<F> AmdApi::* function, Arguments... arguments) {
  PERSEUS_RETURN_IF_ERROR(call_accepting(amd::kSuccess, function, arguments...));
  return {};
}

std::unexpected<core::Error> AmdDevice::nonsense(std::string_view what) const {
  return core::fail(ErrorCode::kDriver,
                    fmt::format("{}: the driver answers {}, which cannot be", describe(identity_), what));
}

core::Result<amd::Layout> AmdDevice::layout() {
  const std::shared_lock lock(host_.gate);
  PERSEUS_RETURN_IF_ERROR(ready());
  return host_.library->layout();
}

core::Result<std::shared_ptr<const AmdDevice::Clocks>> AmdDevice::clocks() {
  {
    const std::lock_guard lock(clocks_mutex_);
    if (clocks_ != nullptr) return clocks_;
  }
  amd::Frequencies levels{};
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::frequencies, amd::kClockGraphics, &levels));
  if (levels.supported == 0 || levels.supported > std::size(levels.hertz)) {
    return nonsense(fmt::format("with {} clock levels", levels.supported));
  }
  Clocks found;
  for (std::uint32_t i = 0; i < levels.supported; ++i) {
    const core::Megahertz clock = from_hertz(levels.hertz[i]);
    if (clock.value() <= kMaxClockMhz) found.push_back(clock);
  }
  found = tidy_clocks(std::move(found));
  if (found.empty()) return nonsense("with no graphics clock");
  // Products with fine-grained clocks list the lowest, the momentary and the highest one (amdgpu's
  // pp_dpm_sclk); between the ends every clock goes.
  constexpr std::size_t kFineGrained = 3;
  if (found.size() <= kFineGrained) {
    const core::Megahertz low = found.front();
    const core::Megahertz high = found.back();
    found = {low};
    for (std::uint32_t mhz = (low.value() / kStep + 1) * kStep; mhz < high.value(); mhz += kStep) {
      found.emplace_back(mhz);
    }
    found.push_back(high);
    found = tidy_clocks(std::move(found));
  }
  const std::lock_guard lock(clocks_mutex_);
  clocks_ = std::make_shared<const Clocks>(std::move(found));
  return clocks_;
}

core::Result<std::vector<core::Megahertz>> AmdDevice::supported_clocks() {
  PERSEUS_ASSIGN_OR_RETURN(const auto known, clocks());
  return *known;
}

core::Result<AmdDevice::Obstacle> AmdDevice::obstacle() {
  {
    const std::shared_lock lock(host_.gate);
    PERSEUS_RETURN_IF_ERROR(ready());
    const AmdApi& api = host_.library->api();
    const char* missing = !api.set_clock_limit  ? api.set_clock_limit.name
                          : !api.set_perf_level ? api.set_perf_level.name
                                                : nullptr;
    if (missing != nullptr) {
      return Obstacle{ErrorCode::kUnsupported,
                      fmt::format("AMD SMI {} has no {}", host_.library->version(), missing)};
    }
    if (partitioned_) {
      return Obstacle{ErrorCode::kUnsupported,
                      "the GPU is partitioned, and its partitions share one clock; SPX mode is needed"};
    }
  }
  std::uint32_t mode = amd::kModeUnknown;
  if (call(&AmdApi::virtualization, &mode) && mode != amd::kModeUnknown && mode != amd::kModeBareMetal) {
    return Obstacle{
        ErrorCode::kUnsupported,
        "AMD SMI sets clocks on bare metal only, and this GPU is virtual or shared with virtual machines"};
  }
  if (host_.needs_root && ::geteuid() != 0) {
    return Obstacle{ErrorCode::kPermission,
                    "setting clocks of an AMD GPU needs root; let `perseus agent` do it"};
  }
  return Obstacle{};
}

core::Result<ClockControl> AmdDevice::clock_control() {
  PERSEUS_ASSIGN_OR_RETURN(auto found, obstacle());
  return ClockControl{.possible = found.reason.empty(), .reason = std::move(found.reason)};
}

core::Status AmdDevice::explained(core::Error error) {
  if (error.code() == ErrorCode::kDeviceLost || error.code() == ErrorCode::kDriver) {
    return std::unexpected(std::move(error));
  }
  const auto found = obstacle();
  if (!found || found->reason.empty()) return std::unexpected(std::move(error));
  return core::fail(found->code, fmt::format("{}: {}", describe(identity_), found->reason));
}

core::Status AmdDevice::reset_to_auto() {
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::set_perf_level, amd::kPerfLevelAuto));
  locked_.reset();
  const std::lock_guard lock(clocks_mutex_);
  clocks_.reset();  // the range may have been narrowed by a lock that we found
  return {};
}

/// Each call sets one bound, and the driver refuses a lower bound above the upper one: down goes the lower
/// first, up the upper one.
core::Status AmdDevice::set_limits(core::Megahertz clock) {
  const std::uint32_t opening = openings_;
  if (locked_in_ != opening) locked_.reset();
  if (!locked_) PERSEUS_RETURN_IF_ERROR(reset_to_auto());  // the bounds are then as wide as they get
  const bool down = !locked_ || clock <= *locked_;
  const std::array<std::uint32_t, 2> order =
      down ? std::array{amd::kLimitMin, amd::kLimitMax} : std::array{amd::kLimitMax, amd::kLimitMin};
  for (const std::uint32_t bound : order) {
    auto status = call(&AmdApi::set_clock_limit, amd::kClockGraphics, bound, std::uint64_t{clock.value()});
    if (status) continue;
    static_cast<void>(reset_to_auto());  // rather free than half locked; the error tells what happened
    locked_.reset();
    return status;
  }
  locked_ = clock;
  locked_in_ = opening;
  return {};
}

core::Status AmdDevice::lock_clock(core::Megahertz clock) {
  PERSEUS_ASSIGN_OR_RETURN(const auto known, clocks());
  PERSEUS_RETURN_IF_ERROR(check_clock(*known, clock, identity_));
  const std::lock_guard lock(setting_mutex_);
  auto status = set_limits(clock);
  return status ? status : explained(std::move(status).error());
}

core::Status AmdDevice::reset_clock() {
  const std::lock_guard lock(setting_mutex_);
  auto status = reset_to_auto();
  return status ? status : explained(std::move(status).error());
}

core::Result<core::Megahertz> AmdDevice::sm_clock() {
  amd::Frequencies levels{};
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::frequencies, amd::kClockGraphics, &levels));
  if (levels.current < std::size(levels.hertz)) {
    const core::Megahertz clock = from_hertz(levels.hertz[levels.current]);
    if (clock.value() <= kMaxClockMhz) return clock;
    return nonsense(fmt::format("a clock of {} MHz", clock.value()));
  }
  // No level is the momentary one (asleep): the library's average over a second.
  amd::ClockInfo info{};
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::clock_info, amd::kClockGraphics, &info));
  if (amd::is_absent(info.mhz) || info.mhz > kMaxClockMhz) {
    return nonsense(fmt::format("a clock of {} MHz", info.mhz));
  }
  return core::Megahertz(info.mhz);
}

core::Result<PowerReading> AmdDevice::power() {
  PERSEUS_ASSIGN_OR_RETURN(const amd::Layout layout, this->layout());
  amd::AnyStructure info{};
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::power_info, &info));
  const auto read = [&](std::size_t offset) -> std::optional<core::Watts> {
    const std::uint32_t watts = number_at(info, offset);
    const core::Watts power(watts);
    // A running GPU draws more than nothing: 0 stands for "not reported" in some releases.
    return amd::is_absent(watts) || watts == 0 || power > kMaxPower ? std::nullopt : std::optional(power);
  };
  const PowerReading reading{.momentary = read(layout.current_power), .averaged = read(layout.average_power)};
  if (reading.momentary || reading.averaged) return reading;
  return core::fail(ErrorCode::kUnsupported, fmt::format("{}: it reports no power", describe(identity_)));
}

core::Result<core::Watts> AmdDevice::any_power() {
  PERSEUS_ASSIGN_OR_RETURN(const auto reading, power());
  return reading.momentary ? *reading.momentary : reading.averaged.value_or(core::Watts{});
}

/// Nothing where the product has no counter.
core::Result<std::optional<core::Joules>> AmdDevice::counter() {
  std::uint64_t ticks = 0;
  float resolution = 0;
  std::uint64_t timestamp = 0;
  auto status = call(&AmdApi::energy, &ticks, &resolution, &timestamp);
  if (!status && status.error().code() == ErrorCode::kUnsupported) return std::nullopt;
  if (!status) return std::unexpected(std::move(status).error());
  if (!std::isfinite(resolution) || resolution <= 0) return std::nullopt;
  return from_microjoules(static_cast<double>(ticks) * static_cast<double>(resolution));
}

core::Result<EnergyReading> AmdDevice::energy_source() {
  std::optional<core::Joules> counted;
  if (counter_trusted_.value_or(true)) {
    PERSEUS_ASSIGN_OR_RETURN(counted, counter());
  }
  if (counted && counter_trusted_) return EnergyReading{.total = *counted, .source = EnergySource::kCounter};
  if (meter_ == nullptr) meter_ = std::make_unique<PowerMeter>([this] { return any_power(); }, *host_.time);
  PERSEUS_ASSIGN_OR_RETURN(const EnergyReading integrated, meter_->read());
  if (!counted) return integrated;
  if (!check_ || meter_epoch_ != integrated.epoch) check_.emplace();
  meter_epoch_ = integrated.epoch;
  counter_trusted_ = check_->add(host_.time->now(), *counted, integrated.total);
  if (!counter_trusted_.value_or(false)) return integrated;
  meter_.reset();
  return EnergyReading{.total = *counted, .source = EnergySource::kCounter};
}

core::Result<EnergyReading> AmdDevice::energy() {
  const std::lock_guard lock(energy_mutex_);
  PERSEUS_ASSIGN_OR_RETURN(const auto reading, energy_source());
  return epochs_.note(reading);
}

core::Result<core::Celsius> AmdDevice::temperature() {
  std::int64_t value = 0;
  auto hotspot = call(&AmdApi::temperature, amd::kSensorHotspot, amd::kTemperatureNow, &value);
  if (!hotspot && hotspot.error().code() != ErrorCode::kUnsupported) {
    return std::unexpected(std::move(hotspot).error());
  }
  if (!hotspot) {
    PERSEUS_RETURN_IF_ERROR(call(&AmdApi::temperature, amd::kSensorEdge, amd::kTemperatureNow, &value));
  }
  return from_amd_temperature(value);
}

core::Result<ClockReasons> AmdDevice::clock_reasons() {
  PERSEUS_RETURN_IF_ERROR(layout());  // lost or closed comes first
  return core::fail(
      ErrorCode::kUnsupported,
      fmt::format("{}: Perseus does not read the throttle reasons of AMD GPUs", describe(identity_)));
}

core::Result<double> AmdDevice::utilization() {
  amd::EngineUsage usage{};
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::usage, &usage));
  if (amd::is_absent(usage.graphics)) {
    return core::fail(ErrorCode::kUnsupported,
                      fmt::format("{}: it reports no utilization", describe(identity_)));
  }
  const double share = from_percent(usage.graphics);
  if (share > 1) return nonsense(fmt::format("a utilization of {} per cent", usage.graphics));
  return share;
}

core::Result<core::Watts> AmdDevice::enforced_power_limit() {
  amd::PowerCap cap{};
  PERSEUS_RETURN_IF_ERROR(call(&AmdApi::power_cap, std::uint32_t{0}, &cap));
  const core::Watts limit = from_amd_power_cap(cap.cap);
  if (limit <= core::Watts{} || limit > kMaxPower)
    return nonsense(fmt::format("a power cap of {} uW", cap.cap));
  return limit;
}

core::Result<std::vector<pid_t>> AmdDevice::processes() {
  PERSEUS_ASSIGN_OR_RETURN(const amd::Layout layout, this->layout());
  std::uint32_t size = 128;
  for (int attempt = 0; attempt < kListTries && size <= kMaxList; ++attempt) {
    std::vector<std::byte> bytes(size * layout.process_size);
    std::uint32_t count = size;
    PERSEUS_ASSIGN_OR_RETURN(const amd::Status status,
                             call_accepting(amd::kOutOfResources, &AmdApi::processes, &count, bytes.data()));
    if (status == amd::kOutOfResources) {
      constexpr std::uint32_t kMore = 16;
      size = count > size && count <= kMaxList ? count + kMore : 2 * size;
      continue;
    }
    if (count > size) return nonsense(fmt::format("with {} processes where {} have room", count, size));
    std::vector<pid_t> pids;
    for (std::uint32_t i = 0; i < count; ++i) {
      std::uint32_t pid = 0;
      std::memcpy(&pid, bytes.data() + i * layout.process_size + layout.process_pid, sizeof(pid));
      if (pid > 0 && std::in_range<pid_t>(pid)) pids.push_back(static_cast<pid_t>(pid));
    }
    std::ranges::sort(pids);
    const auto repeated = std::ranges::unique(pids);
    pids.erase(repeated.begin(), repeated.end());
    return pids;
  }
  return nonsense("with a process list that no room is large enough for");
}

}  // namespace perseus::gpu
