// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/counter_period.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "perseus/gpu/clock_table.h"

namespace perseus::gpu {

using core::ErrorCode;

namespace {

/// The number whose changes are counted.
core::Result<double> look(Device& device, Reading reading) {
  if (reading == Reading::kPower) {
    PERSEUS_ASSIGN_OR_RETURN(const auto power, device.power());
    return power.momentary.value_or(power.averaged.value_or(core::Watts{})).value();
  }
  PERSEUS_ASSIGN_OR_RETURN(const auto energy, device.energy());
  if (energy.source == EnergySource::kCounter) return energy.total.value();
  return core::fail(ErrorCode::kUnsupported,
                    fmt::format("{}: it has no energy counter, so none to measure the "
                                "period of (its energy is power added up)",
                                describe(device.identity())));
}

UpdatePeriod summarise(std::vector<core::Seconds> gaps, core::Seconds watched, std::uint64_t looks) {
  std::ranges::sort(gaps);
  return {.median = gaps[gaps.size() / 2],
          .longest = gaps.back(),
          .resolution = watched / static_cast<double>(looks),
          .updates = static_cast<std::uint32_t>(gaps.size()) + 1};
}

}  // namespace

core::Result<UpdatePeriod> measure_period(Device& device, Reading reading, TimeSource& time,
                                          const PeriodOptions& options) {
  PERSEUS_ASSIGN_OR_RETURN(double last, look(device, reading));
  const core::Seconds begin = time.now();
  std::optional<core::Seconds> changed;
  std::vector<core::Seconds> gaps;  // the first change only starts the measurement: its predecessor is unseen
  std::uint64_t looks = 0;
  core::Seconds now = begin;
  while (gaps.size() + 1 < options.updates && now - begin < options.time_limit) {
    time.sleep(options.poll);
    PERSEUS_ASSIGN_OR_RETURN(const double value, look(device, reading));
    now = time.now();
    ++looks;
    if (value == last) continue;
    if (changed) gaps.push_back(now - *changed);
    changed = now;
    last = value;
  }
  if (!gaps.empty()) return summarise(std::move(gaps), now - begin, looks);
  return core::fail(ErrorCode::kTimeout,
                    fmt::format("{}: its {} changed {} in {} s, so its period cannot be told",
                                describe(device.identity()), reading == Reading::kEnergy ? "energy" : "power",
                                changed ? "once" : "never", options.time_limit.value()));
}

std::optional<bool> EnergyCrossCheck::add(core::Seconds now, core::Joules counter, core::Joules integrated) {
  if (verdict_) return verdict_;
  if (!begin_) {
    begin_ = {now, counter, integrated};
    return std::nullopt;
  }
  const core::Joules expected = integrated - begin_->integrated;
  if (now - begin_->time < span_ || expected <= core::Joules{}) return std::nullopt;
  ratio_ = (counter - begin_->counter) / expected;
  verdict_ = ratio_ <= kTolerance && ratio_ >= 1 / kTolerance;
  return verdict_;
}

}  // namespace perseus::gpu
