// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/message_fields.h"

#include <algorithm>
#include <array>

#include "perseus/format/text.h"

namespace perseus::server::fields {

core::Result<double> bounded(JsonReader& json, double least, double most, std::string_view unit) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
  if (value >= least && value <= most) return value;
  return json.refuse(place, fmt::format("{}{} is outside {} to {}{}", format::number_text(value), unit,
                                        format::number_text(least), format::number_text(most), unit));
}

core::Result<std::string> short_text(JsonReader& json, std::size_t most) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(std::string value, json.string());
  if (value.size() <= most) return value;
  return json.refuse(place, fmt::format("a text of {} bytes; the limit is {}", value.size(), most),
                     ErrorCode::kLimit);
}

core::Result<core::Seconds> positive_time(JsonReader& json) {
  PERSEUS_ASSIGN_OR_RETURN(const double value,
                           bounded(json, core::kMinTime.value(), core::kMaxTime.value(), " s"));
  return core::Seconds(value);
}

core::Result<core::Seconds> any_time(JsonReader& json) {
  PERSEUS_ASSIGN_OR_RETURN(const double value, bounded(json, 0, core::kMaxTime.value(), " s"));
  return core::Seconds(value);
}

core::Result<core::Megahertz> clock(JsonReader& json) {
  std::uint32_t mhz = 0;
  PERSEUS_RETURN_IF_ERROR(whole(json, mhz, 1, core::kMaxClockMhz));
  return core::Megahertz(mhz);
}

Status stamp_member(JsonReader& json, std::size_t name, Stamp& stamp) {
  return whole(json, name == 0 ? stamp.incarnation : stamp.sequence, 1, kLargestWhole);
}

namespace {

constexpr std::array kMeasuredKinds = {core::Kind::kForward,         core::Kind::kBackward,
                                       core::Kind::kBackwardInput,   core::Kind::kBackwardWeight,
                                       core::Kind::kForwardBackward, core::Kind::kRecompute};

Status read_kind(JsonReader& json, core::Kind& to) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const std::string text, json.string());
  const auto kind = measured_kind(text);
  if (!kind)
    return json.refuse(place, fmt::format("{} is none of F, B, I, W, FB and R", format::quoted(text)));
  to = *kind;
  return {};
}

Status read_one_kind(JsonReader& json, bool expected, KindTimes& out) {
  static constexpr std::array<std::string_view, 8> kNames = {
      "kind", "stage", "clock_mhz", "count", "rejected", "time_s", "time_std_s", "expected_s"};
  const std::size_t place = json.mark();
  const std::span names = std::span(kNames).first(expected ? 8 : 7);
  PERSEUS_RETURN_IF_ERROR(json.object(names, 7, [&](std::size_t name) -> Status {
    switch (name) {
      case 0:
        return read_kind(json, out.kind);
      case 1:
        return whole(json, out.stage, 0, core::kMaxComputations);
      case 2:
        return take(clock(json), out.clock);
      case 3:
        return whole(json, out.count, 0, core::kMaxComputations);
      case 4:
        return whole(json, out.rejected, 0, core::kMaxComputations);
      case 5:
        return take(any_time(json), out.time);
      case 6:
        return take(any_time(json), out.deviation);
      default:
        return take(any_time(json), out.expected);
    }
  }));
  if ((out.count == 0) == (out.time < core::kMinTime)) return {};
  return json.refuse(place, fmt::format("{} computations take {} s on average", out.count,
                                        format::number_text(out.time.value())));
}

}  // namespace

std::optional<core::Kind> measured_kind(std::string_view letters) {
  const auto* const found = std::ranges::find(kMeasuredKinds, letters, core::letter);
  return found == kMeasuredKinds.end() ? std::nullopt : std::optional(*found);
}

Status read_kinds(JsonReader& json, bool expected, std::vector<KindTimes>& out) {
  return json.array(Limits{}.kinds_of_report,
                    [&](std::size_t) { return read_one_kind(json, expected, out.emplace_back()); });
}

}  // namespace perseus::server::fields
