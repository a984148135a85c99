// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/calibration_json.h"

#include <fmt/format.h>

#include <array>
#include <iterator>
#include <utility>

#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::Seconds;

constexpr std::string_view kFormat = "perseus-calibration/1";
constexpr std::int64_t kMaxCount = 1'000'000'000;
constexpr std::int64_t kMaxMhz = 100'000;

/// Writes one calibration; one use.
class Writer {
 public:
  std::string write(const Calibration& c) {
    out_ = "{";
    member("format", kFormat);
    member("uuid", c.uuid);
    member("name", c.name);
    member("backend", c.backend);
    member("driver_version", c.driver_version);
    member("measured_at", c.measured_at);
    member("load", c.load);
    member("resolution_s", c.resolution);
    name("energy_counter");
    out_ += c.energy_counter ? "true" : "false";
    period("energy_period", c.energy_period);
    period("power_period", c.power_period);
    list("targets", c.targets, [this](const SwitchTarget& t) { target(t); });
    list("pairs", c.pairs, [this](const SwitchPair& p) { pair(p); });
    out_ += "\n}\n";
    return std::move(out_);
  }

 private:
  void name(std::string_view name, std::string_view before = "\n  ") {
    if (!std::exchange(first_, false)) out_ += ',';
    out_ += before;
    append_json_string(out_, name);
    out_ += before.empty() ? ":" : ": ";
  }
  void member(std::string_view key, std::string_view text) {
    name(key);
    append_json_string(out_, text);
  }
  void member(std::string_view key, Seconds time) {
    name(key);
    append_number(out_, time.value());
  }
  void inner(std::string_view key, std::uint32_t count) {
    name(key, "");
    fmt::format_to(std::back_inserter(out_), "{}", count);
  }
  void inner(std::string_view key, Seconds time) {
    name(key, "");
    append_number(out_, time.value());
  }
  void latency(const std::optional<SwitchLatency>& latency) {
    name("latency", "");
    if (!latency) {
      out_ += "null";
      return;
    }
    out_ += '{';
    first_ = true;
    inner("median_s", latency->median);
    inner("p95_s", latency->p95);
    inner("longest_s", latency->longest);
    out_ += '}';
  }
  void period(std::string_view key, const std::optional<ReadingPeriod>& period) {
    name(key);
    if (!period) {
      out_ += "null";
      return;
    }
    out_ += '{';
    first_ = true;
    inner("median_s", period->median);
    inner("longest_s", period->longest);
    inner("resolution_s", period->resolution);
    inner("updates", period->updates);
    out_ += '}';
  }
  void target(const SwitchTarget& target) {
    inner("clock_mhz", target.clock.value());
    inner("samples", target.samples);
    inner("unsettled", target.unsettled);
    inner("throttled", target.throttled);
    latency(target.latency);
  }
  void pair(const SwitchPair& pair) {
    inner("from_mhz", pair.from.value());
    inner("to_mhz", pair.to.value());
    inner("samples", pair.samples);
    latency(pair.latency);
  }
  template <class T, class Write>
  void list(std::string_view key, const std::vector<T>& items, Write&& write) {
    name(key);
    out_ += '[';
    for (const T& item : items) {
      out_ += &item == &items.front() ? "\n    {" : ",\n    {";
      first_ = true;
      write(item);
      out_ += '}';
    }
    out_ += items.empty() ? "]" : "\n  ]";
    first_ = false;
  }

  std::string out_;
  bool first_ = true;
};

/// Reads one calibration; one use.
class Reader {
 public:
  Reader(std::string_view bytes, std::string source) : json_(bytes, std::move(source)) {}

  core::Result<Calibration> read() {
    PERSEUS_RETURN_IF_ERROR(json_.check(kMaxCalibrationBytes, "calibration"));
    PERSEUS_RETURN_IF_ERROR(json_.object(kNames, kNames.size(), [this](std::size_t i) { return member(i); }));
    PERSEUS_RETURN_IF_ERROR(json_.end());
    return std::move(out_);
  }

 private:
  enum Member : std::uint8_t {
    kFormatName,
    kUuid,
    kName,
    kBackend,
    kDriver,
    kMeasuredAt,
    kLoad,
    kResolution,
    kCounter,
    kEnergy,
    kPower,
    kTargets,
    kPairs,
  };
  static constexpr std::array<std::string_view, 13> kNames = {
      "format",       "uuid",    "name",         "backend",        "driver_version",
      "measured_at",  "load",    "resolution_s", "energy_counter", "energy_period",
      "power_period", "targets", "pairs"};

  core::Status member(std::size_t index) {
    switch (index) {
      case kFormatName:
        return format();
      case kUuid:
        return text(out_.uuid);
      case kName:
        return text(out_.name);
      case kBackend:
        return text(out_.backend);
      case kDriver:
        return text(out_.driver_version);
      case kMeasuredAt:
        return text(out_.measured_at);
      case kLoad:
        return text(out_.load);
      case kResolution:
        return time(out_.resolution);
      case kCounter:
        return flag(out_.energy_counter);
      case kEnergy:
        return period(out_.energy_period);
      case kPower:
        return period(out_.power_period);
      case kTargets:
        return json_.array(kMaxCalibrationTargets, [this](std::size_t) { return target(); });
      default:
        return json_.array(kMaxCalibrationPairs, [this](std::size_t) { return pair(); });
    }
  }

  core::Status format() {
    const std::size_t place = json_.mark();
    PERSEUS_ASSIGN_OR_RETURN(const std::string found, json_.string());
    if (found == kFormat) return {};
    return json_.refuse(place, fmt::format("the format '{}' is not '{}'", found, kFormat));
  }
  core::Status text(std::string& to) {
    PERSEUS_ASSIGN_OR_RETURN(to, json_.string());
    return {};
  }
  core::Status flag(bool& to) {
    PERSEUS_ASSIGN_OR_RETURN(to, json_.boolean());
    return {};
  }
  core::Status time(Seconds& to) {
    const std::size_t place = json_.mark();
    PERSEUS_ASSIGN_OR_RETURN(const double value, json_.number());
    to = Seconds(value);
    if (to >= Seconds{} && to <= kMaxCalibrationTime) return {};
    return json_.refuse(place, fmt::format("{} s is not from 0 to {} s", number_text(value),
                                           number_text(kMaxCalibrationTime.value())));
  }
  core::Status count(std::uint32_t& to, std::int64_t least = 0) {
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json_.integer(least, kMaxCount));
    to = static_cast<std::uint32_t>(value);
    return {};
  }
  core::Status clock(core::Megahertz& to) {
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json_.integer(1, kMaxMhz));
    to = core::Megahertz(static_cast<std::uint32_t>(value));
    return {};
  }

  core::Status period(std::optional<ReadingPeriod>& to) {
    if (json_.take_null()) return {};
    static constexpr std::array<std::string_view, 4> kMembers = {"median_s", "longest_s", "resolution_s",
                                                                 "updates"};
    const std::size_t place = json_.mark();
    ReadingPeriod read;
    PERSEUS_RETURN_IF_ERROR(json_.object(kMembers, kMembers.size(), [&](std::size_t i) {
      return i == 0   ? time(read.median)
             : i == 1 ? time(read.longest)
             : i == 2 ? time(read.resolution)
                      : count(read.updates, 2);
    }));
    if (read.median > read.longest) return json_.refuse(place, "median_s is above longest_s");
    to = read;
    return {};
  }

  core::Status latency(std::optional<SwitchLatency>& to) {
    if (json_.take_null()) return {};
    static constexpr std::array<std::string_view, 3> kMembers = {"median_s", "p95_s", "longest_s"};
    const std::size_t place = json_.mark();
    SwitchLatency read;
    PERSEUS_RETURN_IF_ERROR(json_.object(kMembers, kMembers.size(), [&](std::size_t i) {
      return time(i == 0 ? read.median : i == 1 ? read.p95 : read.longest);
    }));
    if (read.median > read.p95 || read.p95 > read.longest) {
      return json_.refuse(place, "median_s, p95_s and longest_s do not ascend");
    }
    to = read;
    return {};
  }

  core::Status target() {
    static constexpr std::array<std::string_view, 5> kMembers = {"clock_mhz", "samples", "unsettled",
                                                                 "throttled", "latency"};
    const std::size_t place = json_.mark();
    SwitchTarget read;
    PERSEUS_RETURN_IF_ERROR(json_.object(kMembers, kMembers.size(), [&](std::size_t i) -> core::Status {
      switch (i) {
        case 0:
          return clock(read.clock);
        case 1:
          return count(read.samples);
        case 2:
          return count(read.unsettled);
        case 3:
          return count(read.throttled);
        default:
          return latency(read.latency);
      }
    }));
    if (!out_.targets.empty() && read.clock <= out_.targets.back().clock) {
      return json_.refuse(place, fmt::format("{} MHz does not follow {} MHz: clocks ascend",
                                             read.clock.value(), out_.targets.back().clock.value()));
    }
    if (read.latency.has_value() != (read.samples > 0)) {
      return json_.refuse(place, fmt::format("a latency of {} samples must {}be null", read.samples,
                                             read.samples > 0 ? "not " : ""));
    }
    out_.targets.push_back(read);
    return {};
  }

  core::Status pair() {
    static constexpr std::array<std::string_view, 4> kMembers = {"from_mhz", "to_mhz", "samples", "latency"};
    const std::size_t place = json_.mark();
    SwitchPair read;
    std::optional<SwitchLatency> measured;
    PERSEUS_RETURN_IF_ERROR(json_.object(kMembers, kMembers.size(), [&](std::size_t i) -> core::Status {
      switch (i) {
        case 0:
          return clock(read.from);
        case 1:
          return clock(read.to);
        case 2:
          return count(read.samples, 1);
        default:
          return latency(measured);
      }
    }));
    if (!measured) return json_.refuse(place, "the latency of a pair must not be null");
    read.latency = *measured;
    if (read.from == read.to) return json_.refuse(place, "a switch goes from one clock to another");
    if (!out_.pairs.empty() &&
        std::pair(read.from, read.to) <= std::pair(out_.pairs.back().from, out_.pairs.back().to)) {
      return json_.refuse(place, "pairs ascend by from_mhz, then by to_mhz");
    }
    out_.pairs.push_back(read);
    return {};
  }

  JsonReader json_;
  Calibration out_;
};

}  // namespace

std::string write_calibration_json(const Calibration& calibration) {
  return Writer().write(calibration);
}

core::Result<Calibration> parse_calibration_json(std::string_view bytes, std::string source) {
  return Reader(bytes, std::move(source)).read();
}

}  // namespace perseus::format
