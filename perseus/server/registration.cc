// SPDX-License-Identifier: Apache-2.0
//
// The body of a job's registration.
#include <fmt/format.h>

#include <array>

#include "perseus/core/pipeline.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/schedule_csv.h"
#include "perseus/format/text.h"
#include "perseus/schedule/generate.h"
#include "perseus/server/message_fields.h"

namespace perseus::server {

using namespace fields;  // NOLINT(google-build-using-namespace): the readers' own words

namespace {

/// The members as written, before they are set against each other.
struct Written {
  std::uint64_t incarnation = 0;
  std::optional<schedule::Request> named;
  std::optional<std::string> orders_csv;
  std::uint32_t pipeline = 0;
  core::Parallel parallel;
  std::vector<core::Watts> blocking_power;
  bool has_blocking_power = false;
  bool one_blocking_power = false;
  core::Seconds p2p_lag;
  std::optional<std::string> fit;
  ProfilingRequest profiling;
  std::string fingerprint;
};

core::Result<std::uint32_t> degree(JsonReader& json, std::size_t most) {
  PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(1, static_cast<std::int64_t>(most)));
  return static_cast<std::uint32_t>(value);
}

Status read_parallel(JsonReader& json, Written& out, const Limits& limits) {
  static constexpr std::array<std::string_view, 3> kNames = {"pipeline", "tensor", "data"};
  return json.object(kNames, 1, [&](std::size_t name) -> Status {
    PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t value, degree(json, limits.ranks_of_job));
    (name == 0 ? out.pipeline : name == 1 ? out.parallel.tensor : out.parallel.data) = value;
    return {};
  });
}

Status read_pipeline(JsonReader& json, Written& out, const Limits& limits) {
  static constexpr std::array<std::string_view, 4> kNames = {"schedule", "microbatches", "virtual_stages",
                                                             "group_size"};
  schedule::Request request;
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, 2, [&](std::size_t name) -> Status {
    if (name == 0) {
      PERSEUS_ASSIGN_OR_RETURN(request.name, json.string());
      return {};
    }
    PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t value, degree(json, limits.computations));
    (name == 1 ? request.microbatches : name == 2 ? request.virtual_stages : request.group_size) = value;
    return {};
  }));
  out.named = std::move(request);
  return {};
}

/// The orders as cells, put together to the text of a schedule file: one grammar, one reader.
Status read_orders(JsonReader& json, Written& out, const Limits& limits) {
  std::string csv;
  std::size_t cells = 0;
  PERSEUS_RETURN_IF_ERROR(json.array(limits.ranks_of_job, [&](std::size_t) -> Status {
    const Status row = json.array(limits.computations, [&](std::size_t i) -> Status {
      const std::size_t place = json.mark();
      PERSEUS_ASSIGN_OR_RETURN(const std::string cell, json.string());
      if (++cells > limits.computations) {
        return json.refuse(place, fmt::format("more than {} computations", limits.computations),
                           ErrorCode::kLimit);
      }
      if (cell.empty() || cell.find_first_of(",\n\r") != std::string::npos) {
        return json.refuse(place, fmt::format("{} is no computation", format::quoted(cell)));
      }
      if (i != 0) csv += ',';
      csv += cell;
      return {};
    });
    csv += '\n';
    return row;
  }));
  out.orders_csv = std::move(csv);
  return {};
}

Status read_blocking_power(JsonReader& json, Written& out, const Limits& limits) {
  out.has_blocking_power = true;
  out.one_blocking_power = !json.at_array();
  const auto one = [&](std::size_t = 0) -> Status {
    return take(bounded(json, 0, core::kMaxPower.value(), " W"), out.blocking_power.emplace_back());
  };
  return out.one_blocking_power ? one() : json.array(limits.ranks_of_job, one);
}

Status read_lag(JsonReader& json, Written& out) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const double lag, json.number());
  if (lag != 0 && (lag < core::kMinTime.value() || lag > core::kMaxTime.value())) {
    return json.refuse(place, fmt::format("{} s is neither 0 nor within {} to {} s", format::number_text(lag),
                                          format::number_text(core::kMinTime.value()),
                                          format::number_text(core::kMaxTime.value())));
  }
  out.p2p_lag = core::Seconds(lag);
  return {};
}

Status read_fit(JsonReader& json, Written& out) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(out.fit, json.string());
  if (out.fit == "none" || out.fit == "convex") return {};
  return json.refuse(place, fmt::format("{} is neither none nor convex", format::quoted(*out.fit)));
}

/// Bounds that keep a sweep within reason: a day of training time, windows of an hour.
constexpr double kMostBudget = 86'400;
constexpr double kMostWindow = 3600;
constexpr std::int64_t kMostWindowSteps = 10'000;
constexpr double kMostSlowdownPct = 10'000;

Status read_mode(JsonReader& json, bool& online) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const std::string mode, json.string());
  online = mode == "online";
  if (online || mode == "off") return {};
  return json.refuse(place, fmt::format("{} is neither online nor off", format::quoted(mode)));
}

Status read_profiling(JsonReader& json, ProfilingRequest& out) {
  static constexpr std::array<std::string_view, 7> kNames = {
      "mode", "clocks", "steps", "window_s", "skip", "budget_s", "max_slowdown_pct"};
  return json.object(kNames, 0, [&](std::size_t name) -> Status {
    switch (name) {
      case 0:
        return read_mode(json, out.online);
      case 1:
        return whole(json, out.clocks, 0, kMostClocks);
      case 2:
        return whole(json, out.steps, 1, kMostWindowSteps);
      case 3:
        return take(bounded(json, 0, kMostWindow, " s"), out.window);
      case 4:
        return whole(json, out.skip, 0, kMostWindowSteps);
      case 5:
        return take(bounded(json, 0, kMostBudget, " s"), out.budget);
      default:
        return take(bounded(json, 0, kMostSlowdownPct, " %"), out.max_slowdown_pct);
    }
  });
}

Status read_fingerprint(JsonReader& json, std::string& out, const Limits& limits) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(out, json.string());
  if (!out.empty() && format::is_printable(out, limits.fingerprint_bytes)) return {};
  return json.refuse(
      place, fmt::format("a fingerprint is 1 to {} bytes of printable characters", limits.fingerprint_bytes));
}

Status read_incarnation(JsonReader& json, Written& out) {
  PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(1, kLargestWhole));
  out.incarnation = static_cast<std::uint64_t>(value);
  return {};
}

std::unexpected<core::Error> refuse(std::string message, ErrorCode code = ErrorCode::kInvalidInput) {
  return fail(code, std::move(message), {"body"});
}

core::Result<core::Schedule> make_schedule(const Written& written) {
  if (written.named.has_value() == written.orders_csv.has_value()) {
    return refuse("has either 'pipeline' (a named schedule) or 'orders' (the order as built)");
  }
  if (written.orders_csv) {
    PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_schedule_csv(*written.orders_csv, "orders"));
    return std::move(parsed.schedule);
  }
  schedule::Request request = *written.named;
  request.pipeline = written.pipeline;
  return schedule::generate(request);
}

Status check_size(const Written& written, const Limits& limits) {
  const std::uint64_t ranks =
      std::uint64_t{written.pipeline} * written.parallel.tensor * written.parallel.data;
  if (ranks > limits.ranks_of_job) {
    return refuse(fmt::format("{} ranks; the limit is {}", ranks, limits.ranks_of_job), ErrorCode::kLimit);
  }
  if (!written.named) return {};
  // A forward and a backward at least: refuse before anything is generated.
  const std::uint64_t least = std::uint64_t{2} * written.named->microbatches * written.pipeline *
                              std::max<std::uint32_t>(1, written.named->virtual_stages);
  if (least > limits.computations) {
    return refuse(fmt::format("at least {} computations; the limit is {}", least, limits.computations),
                  ErrorCode::kLimit);
  }
  return {};
}

}  // namespace

core::Result<Registration> parse_registration(std::string_view body, const Limits& limits) {
  static constexpr std::array<std::string_view, 9> kNames = {"incarnation", "parallel",  "blocking_power_w",
                                                             "pipeline",    "orders",    "p2p_lag_s",
                                                             "fit",         "profiling", "fingerprint"};
  JsonReader json(body, "body");
  Written written;
  PERSEUS_RETURN_IF_ERROR(json.check(limits.registration_bytes, "request body"));
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, 2, [&](std::size_t name) -> Status {
    switch (name) {
      case 0:
        return read_incarnation(json, written);
      case 1:
        return read_parallel(json, written, limits);
      case 2:
        return read_blocking_power(json, written, limits);
      case 3:
        return read_pipeline(json, written, limits);
      case 4:
        return read_orders(json, written, limits);
      case 5:
        return read_lag(json, written);
      case 6:
        return read_fit(json, written);
      case 7:
        return read_profiling(json, written.profiling);
      default:
        return read_fingerprint(json, written.fingerprint, limits);
    }
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  PERSEUS_RETURN_IF_ERROR(check_size(written, limits));

  Registration out{.incarnation = written.incarnation,
                   .schedule = {},
                   .parallel = written.parallel,
                   .blocking_power = std::move(written.blocking_power),
                   .p2p_lag = written.p2p_lag,
                   .fit = std::move(written.fit),
                   .profiling = written.profiling,
                   .fingerprint = std::move(written.fingerprint)};
  PERSEUS_ASSIGN_OR_RETURN(out.schedule, make_schedule(written));
  if (out.schedule.pipeline() != written.pipeline) {
    return refuse(fmt::format("'orders' has {} ranks and 'parallel.pipeline' says {}",
                              out.schedule.pipeline(), written.pipeline));
  }
  if (written.one_blocking_power) out.blocking_power.resize(written.pipeline, out.blocking_power.front());
  if (!written.has_blocking_power && !written.profiling.online) {
    return refuse("'blocking_power_w' is missing, and profiling is not online");
  }
  if (written.has_blocking_power && out.blocking_power.size() != written.pipeline) {
    return refuse(fmt::format("'blocking_power_w' has {} values for {} pipeline ranks",
                              out.blocking_power.size(), written.pipeline));
  }
  PERSEUS_ASSIGN_OR_RETURN(const auto runs,
                           core::Pipeline::build(out.schedule));  // refuses what could not run
  if (runs.size() > limits.computations) {
    return refuse(fmt::format("{} computations; the limit is {}", runs.size(), limits.computations),
                  ErrorCode::kLimit);
  }
  return out;
}

}  // namespace perseus::server
