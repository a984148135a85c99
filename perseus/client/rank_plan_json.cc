// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/rank_plan_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "perseus/core/profile.h"
#include "perseus/format/api_access.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using core::Kind;
using core::Status;
using format::JsonReader;

constexpr std::size_t kMostReasonBytes = 256;  ///< as the server's own texts
constexpr std::size_t kMostKnobs = 64;         ///< columns of a profile beyond the known ones (assumed)
constexpr std::size_t kMostWords = 300;        ///< bytes of a refusal in a log line (assumed)

template <class T>
Status whole(JsonReader& json, T& to, std::int64_t least, std::int64_t most) {
  PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(least, most));
  to = static_cast<T>(value);
  return {};
}

/// A time of at most kMaxTime; 0 is allowed.
core::Result<core::Seconds> time_value(JsonReader& json) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
  if (value >= 0 && value <= core::kMaxTime.value()) return core::Seconds(value);
  return json.refuse(place, fmt::format("{} s is outside 0 to {} s", format::number_text(value),
                                        format::number_text(core::kMaxTime.value())));
}

core::Result<std::string> digest(JsonReader& json) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(std::string text, json.string());
  if (text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos) return text;
  return json.refuse(place, fmt::format("{} is not 64 lower-case hexadecimal digits", format::quoted(text)));
}

std::optional<Kind> kind_of(std::string_view text) {
  for (const Kind kind : {Kind::kForward, Kind::kBackward, Kind::kBackwardInput, Kind::kBackwardWeight,
                          Kind::kForwardBackward, Kind::kRecompute}) {
    if (text == core::letter(kind)) return kind;
  }
  return std::nullopt;
}

/// The kind's letter, or the name of another instruction.
Status read_kind(JsonReader& json, PlannedOperation& out) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(std::string text, json.string());
  if (const auto kind = kind_of(text)) {
    out.computation.kind = *kind;
    return {};
  }
  if (const Status fits = format::check_instruction_name(text, {}); !fits) {
    return json.refuse(place, fits.error().message());
  }
  out.computation.kind = Kind::kOther;
  out.instruction = std::move(text);
  return {};
}

Status read_clock(JsonReader& json, std::optional<core::Megahertz>& out) {
  if (json.take_null()) return {};
  std::uint32_t mhz = 0;
  PERSEUS_RETURN_IF_ERROR(whole(json, mhz, 1, core::kMaxClockMhz));
  out = core::Megahertz(mhz);
  return {};
}

Status drop_knobs(JsonReader& json) {
  return json.map(kMostKnobs, [&](const std::string&) -> Status {
    const auto dropped = json.string();
    return dropped ? Status() : std::unexpected(dropped.error());
  });
}

/// [kind, stage, microbatch, clock or null, time], for FB then stage and microbatch of its backward, then
/// knobs.
Status read_operation(JsonReader& json, PlannedOperation& out) {
  constexpr std::int64_t kMostIndex = core::kMaxComputations - 1;
  const std::size_t place = json.mark();
  std::size_t count = 0;
  std::size_t plain = 5;  // elements without knobs
  PERSEUS_RETURN_IF_ERROR(json.array(8, [&](std::size_t i) -> Status {
    count = i + 1;
    core::Computation& c = out.computation;
    switch (i) {
      case 0: {
        Status read = read_kind(json, out);
        if (c.kind == Kind::kForwardBackward) plain = 7;
        return read;
      }
      case 1:
        return whole(json, c.stage, 0, kMostIndex);
      case 2:
        return whole(json, c.microbatch, 0, kMostIndex);
      case 3:
        return read_clock(json, out.clock);
      case 4: {
        PERSEUS_ASSIGN_OR_RETURN(out.expected_time, time_value(json));
        return {};
      }
      default:
        if (i < plain) return whole(json, i == 5 ? c.stage_b : c.microbatch_b, 0, kMostIndex);
        if (i == plain) return drop_knobs(json);
        return json.refuse(json.mark(), fmt::format("an operation of more than {} elements", plain + 1));
    }
  }));
  if (count >= plain) return {};
  return json.refuse(place,
                     fmt::format("an operation of {} elements; it has {} or {}", count, plain, plain + 1));
}

Status read_kind_clock(JsonReader& json, KindClock& out) {
  static constexpr std::array<std::string_view, 3> kNames = {"kind", "stage", "clock_mhz"};
  return json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 1) return whole(json, out.stage, 0, core::kMaxComputations - 1);
    if (name == 2) {
      std::uint32_t mhz = 0;
      PERSEUS_RETURN_IF_ERROR(whole(json, mhz, 1, core::kMaxClockMhz));
      out.clock = core::Megahertz(mhz);
      return {};
    }
    const std::size_t place = json.mark();
    PERSEUS_ASSIGN_OR_RETURN(const std::string text, json.string());
    const auto kind = kind_of(text);
    if (!kind) return json.refuse(place, fmt::format("{} is no kind", format::quoted(text)));
    out.kind = *kind;
    return {};
  });
}

Status read_window(JsonReader& json, ProfileWindow& out) {
  static constexpr std::array<std::string_view, 3> kNames = {"steps", "skip", "clocks"};
  constexpr std::int64_t kMostSteps = 1'000'000;
  const std::size_t place = json.mark();
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 0) return whole(json, out.steps, 1, kMostSteps);
    if (name == 1) return whole(json, out.skip, 0, kMostSteps);
    return json.array(kMostWindowClocks,
                      [&](std::size_t) { return read_kind_clock(json, out.clocks.emplace_back()); });
  }));
  if (out.skip < out.steps) return {};
  return json.refuse(place, fmt::format("skips {} of {} steps", out.skip, out.steps));
}

/// What the members say of each other.
Status check_plan(const JsonReader& json, std::size_t place, const ReceivedPlan& received, bool operations,
                  bool windows) {
  const RankPlan& p = received.plan;
  const std::uint64_t revision = 2 * p.generation + (p.from_step ? 1 : 0);
  if (p.revision != revision) {
    return json.refuse(place, fmt::format("revision {} does not fit generation {} {} a step", p.revision,
                                          p.generation, p.from_step ? "with" : "without"));
  }
  if (p.baseline && (operations || windows || p.promised_time)) {
    return json.refuse(place, "the baseline has neither operations, windows nor a promised time");
  }
  if (windows && (operations || p.promised_time)) {
    return json.refuse(place, "windows come with neither operations nor a promised time");
  }
  if (p.promised_time && !operations) return json.refuse(place, "a promised time without operations");
  return {};
}

/// Members that a session compares or counts with.
Status read_fence(JsonReader& json, std::size_t name, RankPlan& out) {
  const std::size_t place = json.mark();
  switch (name) {
    case 0: {
      PERSEUS_ASSIGN_OR_RETURN(out.job, json.string());
      const Status fits = format::check_name(out.job, "job");
      return fits ? Status() : json.refuse(place, fits.error().message());
    }
    case 1:
      return whole(json, out.incarnation, 1, kLargestWhole);
    case 2: {
      PERSEUS_ASSIGN_OR_RETURN(out.schedule_sha256, digest(json));
      return {};
    }
    case 3:
      return whole(json, out.revision, 1, kLargestWhole);
    default:
      return whole(json, out.generation, 1, kLargestWhole / 2);
  }
}

Status read_rest(JsonReader& json, std::size_t name, RankPlan& out) {
  const std::size_t place = json.mark();
  switch (name) {
    case 5: {
      PERSEUS_ASSIGN_OR_RETURN(out.reason, json.string());
      if (format::is_printable(out.reason, kMostReasonBytes)) return {};
      return json.refuse(
          place, fmt::format("the reason is not printable or longer than {} bytes", kMostReasonBytes));
    }
    case 6:
      return json.take_null() ? Status() : whole(json, out.from_step.emplace(), 0, kLargestWhole);
    case 7: {
      PERSEUS_ASSIGN_OR_RETURN(out.ttl, time_value(json));
      return {};
    }
    case 8: {
      PERSEUS_ASSIGN_OR_RETURN(out.baseline, json.boolean());
      return {};
    }
    case 9: {
      PERSEUS_ASSIGN_OR_RETURN(out.promised_time, time_value(json));
      return {};
    }
    default: {  // plan_sha256: of the whole plan file, which a rank does not see
      const auto dropped = digest(json);
      return dropped ? Status() : std::unexpected(dropped.error());
    }
  }
}

}  // namespace

core::Result<ReceivedPlan> parse_rank_plan(std::string_view body) {
  static constexpr std::array<std::string_view, 13> kNames = {
      "job",   "incarnation", "schedule_sha256", "revision",    "generation", "reason", "from_step",
      "ttl_s", "baseline",    "promised_time_s", "plan_sha256", "operations", "windows"};
  constexpr std::size_t kNeeded = 9;
  JsonReader json(body, "answer");
  // The transport bounds the size of an answer.
  PERSEUS_RETURN_IF_ERROR(json.check(std::numeric_limits<std::size_t>::max(), "answer"));
  ReceivedPlan out;
  bool operations = false;
  bool windows = false;
  const std::size_t place = json.mark();
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNeeded, [&](std::size_t name) -> Status {
    if (name < 5) return read_fence(json, name, out.plan);
    if (name < 11) return read_rest(json, name, out.plan);
    if (name == 11) {
      operations = true;
      return json.array(core::kMaxComputations, [&](std::size_t) {
        return read_operation(json, out.plan.operations.emplace_back());
      });
    }
    windows = true;
    return json.array(kMostWindows,
                      [&](std::size_t) { return read_window(json, out.plan.windows.emplace_back()); });
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  PERSEUS_RETURN_IF_ERROR(check_plan(json, place, out, operations, windows));
  out.complete = operations || windows || out.plan.baseline;
  return out;
}

core::Result<RankPlan> complete(ReceivedPlan received, const RankPlan* held) {
  RankPlan& plan = received.plan;
  if (received.complete) return std::move(plan);
  const bool fits = held != nullptr && held->generation == plan.generation && !held->baseline &&
                    held->incarnation == plan.incarnation && held->schedule_sha256 == plan.schedule_sha256;
  if (!fits) {
    return core::fail(
        ErrorCode::kInvalidInput,
        fmt::format("generation {} came without operations, and this rank has {}", plan.generation,
                    held == nullptr ? "none" : fmt::format("generation {}", held->generation)),
        {"answer"});
  }
  plan.operations = held->operations;
  plan.windows = held->windows;
  plan.promised_time = held->promised_time;
  return std::move(plan);
}

core::Result<Applied> parse_applied(std::string_view body) {
  static constexpr std::array<std::string_view, 3> kNames = {"applied", "revision", "rank_ttl_s"};
  constexpr std::size_t kMostBytes = 4096;  // three short members (assumed)
  JsonReader json(body, "answer");
  PERSEUS_RETURN_IF_ERROR(json.check(kMostBytes, "answer"));
  Applied out;
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    if (name == 1) return whole(json, out.revision, 0, kLargestWhole);
    if (name == 0) {
      PERSEUS_ASSIGN_OR_RETURN(out.applied, json.boolean());
      return {};
    }
    const std::size_t place = json.mark();
    PERSEUS_ASSIGN_OR_RETURN(out.rank_ttl, time_value(json));
    if (out.rank_ttl > core::Seconds(0)) return {};
    return json.refuse(place, "a rank that may never be silent");
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  return out;
}

std::string refusal_words(std::string_view body) {
  constexpr std::string_view kMessage = R"("message":)";
  if (const std::size_t at = body.find(kMessage); at != std::string_view::npos) {
    JsonReader json(body.substr(at + kMessage.size()), "answer");
    if (const auto message = json.string()) return format::printable(*message, kMostWords);
  }
  return body.empty() ? "nothing more" : format::quoted(body);
}

}  // namespace perseus::client
