// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/messages.h"

#include <fmt/format.h>

#include <array>
#include <chrono>

#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/server/message_fields.h"

namespace perseus::server {

using namespace fields;  // NOLINT(google-build-using-namespace): the readers' own words

namespace {

core::Result<RankId> rank_value(JsonReader& json) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const std::string text, json.string());
  const auto rank = parse_rank(text);
  if (!rank) return json.refuse(place, rank.error().message());
  return *rank;
}

bool is_digest(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

core::Result<RankHello> parse_rank_hello(std::string_view body) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "incarnation", "sequence", "rank",          "schedule_sha256", "gpu_uuid",
      "clocks_mhz",  "step",     "clock_control", "counter_period_s"};
  JsonReader json(body, std::string(kSource));
  RankHello out;
  const Status read = whole_body(json, Limits{}.message_bytes, kNames, 4, [&](std::size_t name) -> Status {
    switch (name) {
      case 2:
        return take(rank_value(json), out.rank);
      case 3: {
        const std::size_t place = json.mark();
        PERSEUS_RETURN_IF_ERROR(take(json.string(), out.schedule_sha256));
        if (is_digest(out.schedule_sha256)) return {};
        return json.refuse(place, fmt::format("{} is not 64 lower-case hexadecimal digits",
                                              format::quoted(out.schedule_sha256)));
      }
      case 4:
        return take(short_text(json), out.gpu_uuid);
      case 5:
        return json.array(kMostClocks,
                          [&](std::size_t) { return take(clock(json), out.clocks.emplace_back()); });
      case 6:
        return whole(json, out.step, 0, kLargestWhole);
      case 7:
        return take(json.boolean(), out.clock_control);
      case 8:
        return take(bounded(json, 0, kMostCounterPeriod, " s"), out.counter_period);
      default:
        return stamp_member(json, name, out.stamp);
    }
  });
  if (!read) return std::unexpected(read.error());
  return out;
}

core::Result<Renewal> parse_renewal(std::string_view body) {
  static constexpr std::array<std::string_view, 3> kNames = {"incarnation", "sequence", "step"};
  JsonReader json(body, std::string(kSource));
  Renewal out;
  PERSEUS_RETURN_IF_ERROR(
      whole_body(json, Limits{}.message_bytes, kNames, kNames.size(), [&](std::size_t name) -> Status {
        if (name == 2) return whole(json, out.step, 0, kLargestWhole);
        return stamp_member(json, name, out.stamp);
      }));
  return out;
}

core::Result<GuardReport> parse_guard_report(std::string_view body) {
  static constexpr std::array<std::string_view, 6> kNames = {
      "incarnation", "sequence", "generation", "promised_time_s", "measured_time_s", "iterations"};
  JsonReader json(body, std::string(kSource));
  GuardReport out;
  PERSEUS_RETURN_IF_ERROR(
      whole_body(json, Limits{}.message_bytes, kNames, kNames.size(), [&](std::size_t name) -> Status {
        switch (name) {
          case 2:
            return whole(json, out.generation, 0, kLargestWhole);
          case 3:
            return take(positive_time(json), out.promised);
          case 4:
            return take(positive_time(json), out.measured);
          case 5:
            return whole(json, out.iterations, 1, 1'000'000);
          default:
            return stamp_member(json, name, out.stamp);
        }
      }));
  return out;
}

namespace {

/// Which members a notice must have and must not have together.
Status check_notice(const StragglerNotice& n) {
  const auto refuse = [](std::string_view what) {
    return fail(ErrorCode::kInvalidInput, std::string(what), {std::string(kSource)});
  };
  if (n.pipeline.has_value() == n.rank.has_value()) return refuse("names either 'pipeline' or 'rank'");
  if (n.slowdown.has_value() == n.iteration_time.has_value()) {
    return refuse("has either 'slowdown' or 'iteration_time_s'");
  }
  if (n.rank && n.iteration_time)
    return refuse("'iteration_time_s' is of a pipeline; a rank has a 'slowdown'");
  if (n.ttl && n.until_unix_ms) return refuse("has 'ttl_s' or 'until', not both");
  return {};
}

/// The slowdown of a straggler may be large (a GPU at a tenth of its clock, a flapping link) but not absurd.
constexpr double kMostSlowdown = 1000;

}  // namespace

core::Result<StragglerNotice> parse_straggler_notice(std::string_view body, std::string_view job) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "cause", "job", "id", "pipeline", "rank", "slowdown", "iteration_time_s", "ttl_s", "until"};
  JsonReader json(body, std::string(kSource));
  StragglerNotice out;
  const auto member = [&](std::size_t name) -> Status {
    const std::size_t place = json.mark();
    switch (name) {
      case 0:
        return take(short_text(json), out.cause);
      case 1: {
        PERSEUS_ASSIGN_OR_RETURN(const std::string named, json.string());
        if (named == job) return {};
        return json.refuse(place, fmt::format("{} is not the job of this path", format::quoted(named)));
      }
      case 2: {
        PERSEUS_RETURN_IF_ERROR(take(json.string(), out.id));
        const Status fits = check_name(*out.id, "notice");
        return fits ? Status() : json.refuse(place, fits.error().message());
      }
      case 3:
        out.pipeline.emplace();
        return whole(json, *out.pipeline, 0, core::kMaxComputations);
      case 4:
        return take(rank_value(json), out.rank);
      case 5:
        return take(bounded(json, 1, kMostSlowdown, ""), out.slowdown);
      case 6:
        return take(positive_time(json), out.iteration_time);
      case 7:
        return take(bounded(json, 1e-3, JobSettings{}.notice_ttl_most.value(), " s"), out.ttl);
      default: {
        PERSEUS_ASSIGN_OR_RETURN(const std::string text, json.string());
        const auto until = parse_utc(text);
        if (!until) return json.refuse(place, until.error().message());
        out.until_unix_ms = *until;
        return {};
      }
    }
  };
  PERSEUS_RETURN_IF_ERROR(whole_body(json, Limits{}.message_bytes, kNames, 1, member));
  PERSEUS_RETURN_IF_ERROR(check_notice(out));
  return out;
}

core::Result<std::int64_t> parse_utc(std::string_view text) {
  const auto refuse = [&] {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} is not a moment in UTC such as 2026-11-24T14:00:00Z", format::quoted(text)));
  };
  constexpr std::string_view kShape = "0000-00-00T00:00:00";
  if (text.size() < kShape.size() + 1 || text.back() != 'Z') return refuse();
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kShape[i] == '0' ? !digit : text[i] != kShape[i]) return refuse();
  }
  const auto field = [&](std::size_t at, std::size_t size) {
    return *format::parse_integer<int>(text.substr(at, size));
  };
  using namespace std::chrono;  // NOLINT(google-build-using-namespace): calendar words
  const year_month_day day{year(field(0, 4)), month(static_cast<unsigned>(field(5, 2))),
                           std::chrono::day(static_cast<unsigned>(field(8, 2)))};
  if (!day.ok() || field(11, 2) > 23 || field(14, 2) > 59 || field(17, 2) > 59) return refuse();
  const std::string_view fraction = text.substr(kShape.size(), text.size() - kShape.size() - 1);
  double rest = 0;
  if (!fraction.empty()) {
    const auto value = format::parse_number(fmt::format("0{}", fraction));
    if (fraction.front() != '.' || fraction.find_first_not_of("0123456789", 1) != std::string_view::npos ||
        fraction.size() == 1 || !value) {
      return refuse();
    }
    rest = *value;
  }
  const auto whole_seconds =
      sys_days(day).time_since_epoch() + hours(field(11, 2)) + minutes(field(14, 2)) + seconds(field(17, 2));
  return duration_cast<milliseconds>(whole_seconds).count() + static_cast<std::int64_t>(rest * 1000);
}

}  // namespace perseus::server
