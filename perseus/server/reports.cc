// SPDX-License-Identifier: Apache-2.0
//
// What ranks measured: windows of a sweep, and iterations under a plan.
#include <algorithm>
#include <array>

#include "perseus/format/text.h"
#include "perseus/server/message_fields.h"

namespace perseus::server {
using namespace fields;  // NOLINT(google-build-using-namespace): the readers' own words

std::string to_text(const EnergyColumn& column) {
  if (column.idle) return "idle";
  return fmt::format("{}{}@{}", core::letter(column.kind), column.stage, column.clock.value());
}

core::Result<EnergyColumn> parse_energy_column(std::string_view text) {
  if (text == "idle") return EnergyColumn{};
  const std::size_t digits = std::min(text.find_first_of("0123456789"), text.size());
  const std::size_t at = std::min(text.find('@'), text.size());
  const auto kind = fields::measured_kind(text.substr(0, digits));
  if (kind && digits < at && at < text.size()) {
    const auto stage = format::parse_integer<std::uint32_t>(text.substr(digits, at - digits));
    const auto mhz = format::parse_integer<std::uint32_t>(text.substr(at + 1));
    if (stage && mhz && *stage <= core::kMaxComputations && *mhz >= 1 && *mhz <= core::kMaxClockMhz) {
      EnergyColumn out{false, *kind, *stage, core::Megahertz(*mhz)};
      if (to_text(out) == text) return out;  // one spelling each
    }
  }
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} is no column: KIND STAGE @ MHZ in one word, e.g. F0@1410, or idle",
                          format::quoted(text)));
}

namespace {

Status read_columns(JsonReader& json, std::vector<EnergyColumn>& out) {
  return json.array(Limits{}.energy_columns, [&](std::size_t) -> Status {
    const std::size_t place = json.mark();
    PERSEUS_ASSIGN_OR_RETURN(const std::string text, json.string());
    const auto column = parse_energy_column(text);
    if (!column) return json.refuse(place, column.error().message());
    if (std::ranges::find(out, *column) != out.end())
      return json.refuse(place, fmt::format("column {} twice", text));
    out.push_back(*column);
    return {};
  });
}

/// Seconds squared: no interval is longer than the longest time.
constexpr double kMostSquare = 1e12;
/// Sums with energies: the most energy times the longest time, and the former squared.
constexpr double kMostProduct = 1e18;

Status read_sums(JsonReader& json, std::size_t most, double largest, std::vector<double>& out) {
  return json.array(most,
                    [&](std::size_t) { return take(bounded(json, 0, largest, ""), out.emplace_back()); });
}

Status read_energy(JsonReader& json, std::optional<EnergySums>& to) {
  static constexpr std::array<std::string_view, 7> kNames = {"intervals", "seconds", "joules", "columns",
                                                             "xtx",       "xty",     "yty"};
  if (json.take_null()) return {};
  const std::size_t place = json.mark();
  const std::size_t most = Limits{}.energy_columns;
  EnergySums& out = to.emplace();
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    switch (name) {
      case 0:
        return whole(json, out.intervals, 0, core::kMaxComputations);
      case 1:
        return take(any_time(json), out.seconds);
      case 2:
        return take(bounded(json, 0, core::kMaxEnergy.value(), " J"), out.joules);
      case 3:
        return read_columns(json, out.columns);
      case 4:
        return read_sums(json, most * (most + 1) / 2, kMostSquare, out.xtx);
      case 5:
        return read_sums(json, most, kMostProduct, out.xty);
      default:
        return take(bounded(json, 0, kMostProduct, ""), out.yty);
    }
  }));
  const std::size_t n = out.columns.size();
  if (out.xty.size() == n && out.xtx.size() == n * (n + 1) / 2) return {};
  return json.refuse(
      place, fmt::format("{} columns have {} numbers in 'xtx' and {} in 'xty'; {} and {} belong there", n,
                         out.xtx.size(), out.xty.size(), n * (n + 1) / 2, n));
}

Status read_share(JsonReader& json, double& to) {
  return take(bounded(json, 0, 1, ""), to);
}

}  // namespace

core::Result<WindowReport> parse_window_report(std::string_view body) {
  static constexpr std::array<std::string_view, 11> kNames = {
      "incarnation", "sequence",  "generation", "window",          "step", "iterations", "iteration_time_s",
      "kinds",       "throttled", "energy",     "counter_period_s"};
  JsonReader json(body, std::string(kSource));
  WindowReport out;
  PERSEUS_RETURN_IF_ERROR(whole_body(json, Limits{}.report_bytes, kNames, 8, [&](std::size_t name) -> Status {
    switch (name) {
      case 2:
        return whole(json, out.generation, 0, kLargestWhole);
      case 3:
        return whole(json, out.window, 0, kMostWindows - 1);
      case 4:
        return whole(json, out.step, 0, kLargestWhole);
      case 5:
        return whole(json, out.iterations, 1, kMostIterations);
      case 6:
        return take(positive_time(json), out.iteration_time);
      case 7:
        return read_kinds(json, false, out.kinds);
      case 8:
        return read_share(json, out.throttled);
      case 9:
        return read_energy(json, out.energy);
      case 10:
        return take(bounded(json, 0, kMostCounterPeriod, " s"), out.counter_period);
      default:
        return stamp_member(json, name, out.stamp);
    }
  }));
  return out;
}

core::Result<Measurement> parse_measurement(std::string_view body) {
  static constexpr std::array<std::string_view, 11> kNames = {
      "incarnation", "sequence", "generation", "step",    "iteration_time_s", "iterations",
      "energy_j",    "kinds",    "throttled",  "unknown", "missing"};
  JsonReader json(body, std::string(kSource));
  Measurement out;
  PERSEUS_RETURN_IF_ERROR(whole_body(json, Limits{}.report_bytes, kNames, 5, [&](std::size_t name) -> Status {
    switch (name) {
      case 2:
        return whole(json, out.generation, 0, kLargestWhole);
      case 3:
        return whole(json, out.step, 0, kLargestWhole);
      case 4:
        return take(positive_time(json), out.iteration_time);
      case 5:
        return whole(json, out.iterations, 1, kMostIterations);
      case 6: {
        if (json.take_null()) return {};
        PERSEUS_ASSIGN_OR_RETURN(const double joules, bounded(json, 0, core::kMaxEnergy.value(), " J"));
        out.energy = core::Joules(joules);
        return {};
      }
      case 7:
        return read_kinds(json, true, out.kinds);
      case 8:
        return read_share(json, out.throttled);
      case 9:
        return whole(json, out.unknown, 0, kLargestCount);
      case 10:
        return whole(json, out.missing, 0, kLargestCount);
      default:
        return stamp_member(json, name, out.stamp);
    }
  }));
  return out;
}

}  // namespace perseus::server
