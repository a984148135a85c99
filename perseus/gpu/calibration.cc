// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <random>
#include <utility>

#include "perseus/gpu/clock_table.h"

namespace perseus::gpu {

using core::ErrorCode;
using core::Megahertz;
using core::Seconds;

namespace {

/// A GPU that is busy less than this is idle for our purpose. Assumed.
constexpr double kLeastUtilization = 0.5;
constexpr Seconds kLookForLoad{0.05};

/// What became of one switch.
enum class Outcome : std::uint8_t { kSettled, kUnsettled, kThrottled };
struct Switch {
  Outcome outcome = Outcome::kUnsettled;
  Seconds latency;
};

using Pair = std::pair<Megahertz, Megahertz>;

format::SwitchLatency summarise(std::vector<Seconds> latencies) {
  std::ranges::sort(latencies);
  const auto rank = [&](double share) {  // nearest rank
    const auto n = static_cast<double>(latencies.size());
    return latencies[static_cast<std::size_t>(std::max(1.0, std::ceil(share * n))) - 1];
  };
  return {.median = rank(0.5), .p95 = rank(0.95), .longest = latencies.back()};
}

/// One calibration; one use.
class Calibrator {
 public:
  Calibrator(Device& device, const SetClock& set, TimeSource& time, const CalibrationPlan& plan)
      : device_(device), set_(set), time_(time), plan_(plan), random_(plan.seed) {}

  core::Result<format::Calibration> run(const CalibrationProgress& progress) {
    PERSEUS_RETURN_IF_ERROR(wait_for_load());
    format::Calibration out;
    out.uuid = device_.identity().uuid;
    out.name = device_.identity().name;
    PERSEUS_RETURN_IF_ERROR(measure_readings(out));
    PERSEUS_RETURN_IF_ERROR(measure_switches(progress));
    fill(out);
    return out;
  }

 private:
  core::Status wait_for_load() {
    const Seconds begin = time_.now();
    while (true) {
      PERSEUS_ASSIGN_OR_RETURN(const double busy, device_.utilization());
      if (busy >= kLeastUtilization) return {};
      if (time_.now() - begin >= plan_.load_limit) {
        return core::fail(
            ErrorCode::kInvalidInput,
            fmt::format(
                "{}: it is idle ({:.0f} % busy), and the clock of an idle GPU follows no lock; run steady "
                "work on it meanwhile, such as a matrix multiplication in a loop",
                describe(device_.identity()), busy * 100));
      }
      time_.sleep(kLookForLoad);
    }
  }

  core::Status measure_readings(format::Calibration& out) {
    PERSEUS_ASSIGN_OR_RETURN(const auto energy, device_.energy());
    out.energy_counter = energy.source == EnergySource::kCounter;
    PERSEUS_ASSIGN_OR_RETURN(out.energy_period, period(Reading::kEnergy));
    PERSEUS_ASSIGN_OR_RETURN(out.power_period, period(Reading::kPower));
    return {};
  }

  /// Nothing where the reading has no period or does not change.
  core::Result<std::optional<format::ReadingPeriod>> period(Reading reading) {
    const auto found = measure_period(device_, reading, time_, plan_.periods);
    if (found) {
      return format::ReadingPeriod{found->median, found->longest, found->resolution, found->updates};
    }
    const ErrorCode code = found.error().code();
    if (code == ErrorCode::kUnsupported || code == ErrorCode::kTimeout) return std::nullopt;
    return std::unexpected(found.error());
  }

  /// Every ordered pair of targets `tries` times, in random order.
  [[nodiscard]] std::vector<Pair> itinerary() {
    std::vector<Pair> pairs;
    pairs.reserve(plan_.tries * plan_.targets.size() * plan_.targets.size());
    for (std::uint32_t i = 0; i < plan_.tries; ++i) {
      for (const Megahertz from : plan_.targets) {
        for (const Megahertz to : plan_.targets) {
          if (from != to) pairs.emplace_back(from, to);
        }
      }
    }
    std::ranges::shuffle(pairs, random_);
    return pairs;
  }

  core::Status measure_switches(const CalibrationProgress& progress) {
    const std::vector<Pair> pairs = itinerary();
    std::optional<Megahertz> at;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const auto& [from, to] = pairs[i];
      if (at != from) PERSEUS_RETURN_IF_ERROR(switch_to(from));
      time_.sleep(std::uniform_real_distribution<double>(0, 1)(random_) * plan_.pause);
      PERSEUS_ASSIGN_OR_RETURN(const Switch measured, switch_to(to));
      note(pairs[i], measured);
      at = measured.outcome == Outcome::kUnsettled ? std::nullopt : std::optional(to);
      if (progress) progress(static_cast<double>(i + 1) / static_cast<double>(pairs.size()));
    }
    return {};
  }

  /// Sets the clock and watches until it stays; the latency goes from before the request to the first look
  /// that saw the clock that stayed.
  core::Result<Switch> switch_to(Megahertz target) {
    const Seconds begin = time_.now();
    PERSEUS_RETURN_IF_ERROR(set_(target));
    bool there = false;
    Seconds reached;  // since when, if it is there
    Seconds now = time_.now();
    while (now - begin < plan_.time_limit) {
      PERSEUS_ASSIGN_OR_RETURN(const Megahertz clock, device_.sm_clock());
      now = time_.now();
      ++looks_;
      if (clock == target && !there) reached = now;
      there = clock == target;
      if (there && now - reached >= plan_.hold) {
        watched_ += now - begin;
        return Switch{Outcome::kSettled, reached - begin};
      }
      time_.sleep(plan_.poll);
    }
    watched_ += now - begin;
    const auto reasons = device_.clock_reasons();
    const bool throttled = reasons && reasons->throttled();
    return Switch{throttled ? Outcome::kThrottled : Outcome::kUnsettled, {}};
  }

  void note(const Pair& pair, const Switch& measured) {
    switch (measured.outcome) {
      case Outcome::kSettled:
        latencies_[pair].push_back(measured.latency);
        break;
      case Outcome::kUnsettled:
        ++unsettled_[pair.second];
        break;
      case Outcome::kThrottled:
        ++throttled_[pair.second];
        break;
    }
  }

  void fill(format::Calibration& out) {
    for (const Megahertz target : plan_.targets) {
      std::vector<Seconds> all;
      for (const auto& [pair, some] : latencies_) {
        if (pair.second == target) all.insert(all.end(), some.begin(), some.end());
      }
      format::SwitchTarget row{.clock = target,
                               .samples = static_cast<std::uint32_t>(all.size()),
                               .unsettled = unsettled_[target],
                               .throttled = throttled_[target],
                               .latency = std::nullopt};
      if (!all.empty()) row.latency = summarise(std::move(all));
      out.targets.push_back(row);
    }
    for (const auto& [pair, some] : latencies_) {
      out.pairs.push_back({.from = pair.first,
                           .to = pair.second,
                           .samples = static_cast<std::uint32_t>(some.size()),
                           .latency = summarise(some)});
    }
    out.resolution = looks_ > 0 ? watched_ / static_cast<double>(looks_) : Seconds{};
  }

  Device& device_;
  const SetClock& set_;
  TimeSource& time_;
  const CalibrationPlan& plan_;
  std::mt19937_64 random_;
  std::map<Pair, std::vector<Seconds>> latencies_;
  std::map<Megahertz, std::uint32_t> unsettled_;
  std::map<Megahertz, std::uint32_t> throttled_;
  std::uint64_t looks_ = 0;
  Seconds watched_;
};

}  // namespace

std::vector<Megahertz> spread_targets(std::span<const Megahertz> clocks, std::size_t count) {
  if (clocks.size() <= count) return {clocks.begin(), clocks.end()};
  std::vector<Megahertz> out;
  out.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    // Rounded positions are distinct, since there are more clocks than targets.
    out.push_back(clocks[(i * (clocks.size() - 1) + (count - 1) / 2) / (count - 1)]);
  }
  return out;
}

core::Result<format::Calibration> calibrate(Device& device, const SetClock& set, TimeSource& time,
                                            const CalibrationPlan& plan,
                                            const CalibrationProgress& progress) {
  if (plan.targets.size() < 2) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("{}: {} clock to switch to; at least 2 are needed",
                                  describe(device.identity()), plan.targets.size()));
  }
  return Calibrator(device, set, time, plan).run(progress);
}

}  // namespace perseus::gpu
