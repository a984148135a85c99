// SPDX-License-Identifier: Apache-2.0
//
// Reading. The first member says the type; each type has its own members, all of them needed unless said.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "perseus/format/json_reader.h"
#include "perseus/format/text.h"
#include "perseus/wire/agent_limits.h"
#include "perseus/wire/agent_messages.h"

namespace perseus::wire {
namespace {

using core::ErrorCode;
using format::JsonReader;
using format::quoted;
using std::chrono::milliseconds;

constexpr std::int64_t kMaxId = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMaxIndex = 65'535;

/// The value of the first member, which must be "type".
core::Result<std::string> read_type(std::string_view packet, const std::string& source) {
  JsonReader json(packet, source);
  std::string type;
  const std::size_t start = json.mark();
  bool found = false;
  const core::Status stopped = json.map(1, [&](const std::string& name) -> core::Status {
    if (name != "type") return json.refuse(start, "the first member must be \"type\"");
    PERSEUS_ASSIGN_OR_RETURN(type, json.string());
    found = true;
    return {};
  });
  if (found) return type;  // what follows is read by whoever knows the type
  if (!stopped) return std::unexpected(stopped.error());
  return json.refuse(start, "the first member must be \"type\"");
}

core::Status read_text(JsonReader& json, std::string& out, std::string_view what, std::size_t limit) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(out, json.string());
  if (format::is_printable(out, limit)) return {};
  return json.refuse(place, fmt::format("{} is {}; it must be printable UTF-8 of at most {} bytes", what,
                                        quoted(out), limit));
}

core::Result<core::Megahertz> read_clock(JsonReader& json) {
  PERSEUS_ASSIGN_OR_RETURN(const auto mhz, json.integer(1, kMaxClockMhz));
  return core::Megahertz(static_cast<std::uint32_t>(mhz));
}

core::Status read_optional_clock(JsonReader& json, std::optional<core::Megahertz>& out) {
  if (json.take_null()) return {};
  PERSEUS_ASSIGN_OR_RETURN(out, read_clock(json));
  return {};
}

core::Status read_clocks(JsonReader& json, std::vector<core::Megahertz>& out) {
  return json.array(kMaxClocks, [&](std::size_t) -> core::Status {
    const std::size_t place = json.mark();
    PERSEUS_ASSIGN_OR_RETURN(const auto clock, read_clock(json));
    if (!out.empty() && clock <= out.back()) {
      return json.refuse(
          place, fmt::format("{} MHz after {} MHz; clocks must ascend", clock.value(), out.back().value()));
    }
    out.push_back(clock);
    return {};
  });
}

core::Status read_real(JsonReader& json, double& out) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(out, json.number());
  if (std::abs(out) <= kMaxReading) return {};
  return json.refuse(place, fmt::format("{} is beyond the limit of {}", out, kMaxReading));
}

template <class Unit>
core::Status read_reading(JsonReader& json, std::optional<core::Quantity<Unit>>& out) {
  if (json.take_null()) return {};
  double value = 0;
  PERSEUS_RETURN_IF_ERROR(read_real(json, value));
  out = core::Quantity<Unit>(value);
  return {};
}

template <class T>
core::Status read_whole(JsonReader& json, T& out, std::int64_t least, std::int64_t most) {
  PERSEUS_ASSIGN_OR_RETURN(const auto value, json.integer(least, most));
  out = static_cast<T>(value);
  return {};
}

core::Status read_duration(JsonReader& json, milliseconds& out, milliseconds least, milliseconds most) {
  PERSEUS_ASSIGN_OR_RETURN(const auto value, json.integer(least.count(), most.count()));
  out = milliseconds(value);
  return {};
}

core::Status read_bool(JsonReader& json, bool& out) {
  PERSEUS_ASSIGN_OR_RETURN(out, json.boolean());
  return {};
}

/// A UUID, or an index in decimal.
core::Status read_gpu_name(JsonReader& json, std::string& out) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(out, json.string());
  const auto fits = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  };
  if (!out.empty() && out.size() <= kMaxProduct && std::ranges::all_of(out, fits)) return {};
  return json.refuse(place, fmt::format("gpu is {}; it must be a UUID or an index", quoted(out)));
}

/// One message's members after "type": names, how many of them are needed, and what reads the i-th.
template <std::size_t count, class Member>
core::Status read_members(JsonReader& json, const std::array<std::string_view, count>& names,
                          std::size_t needed, Member&& member) {
  std::array<std::string_view, count + 1> all{"type"};
  std::ranges::copy(names, all.begin() + 1);
  PERSEUS_RETURN_IF_ERROR(json.object(all, needed + 1, [&](std::size_t i) -> core::Status {
    if (i > 0) return member(i - 1);
    PERSEUS_ASSIGN_OR_RETURN([[maybe_unused]] const std::string known, json.string());
    return {};
  }));
  return json.end();
}

core::Status read_nothing(JsonReader& json) {
  return read_members(json, std::array<std::string_view, 0>{}, 0, [](std::size_t) { return core::Status(); });
}

core::Status read_lease(JsonReader& json, std::uint64_t& lease) {
  return read_members(json, std::array<std::string_view, 1>{"lease"}, 1,
                      [&](std::size_t) { return read_whole(json, lease, 1, kMaxId); });
}

core::Status read_into(JsonReader& json, Hello& m) {
  return read_members(json, std::array<std::string_view, 2>{"protocol", "client"}, 2, [&](std::size_t i) {
    return i == 0 ? read_whole(json, m.protocol, 1, kMaxIndex)
                  : read_text(json, m.client, "client", kMaxAgentName);
  });
}

core::Status read_into(JsonReader& json, Acquire& m) {
  return read_members(json, std::array<std::string_view, 3>{"gpu", "job", "time_to_live_ms"}, 1,
                      [&](std::size_t i) {
                        if (i == 0) return read_gpu_name(json, m.gpu);
                        if (i == 1) return read_text(json, m.job, "job", kMaxAgentName);
                        return read_duration(json, m.time_to_live, kMinTimeToLive, kMaxTimeToLive);
                      });
}

core::Status read_into(JsonReader& json, Renew& m) {
  return read_lease(json, m.lease);
}
core::Status read_into(JsonReader& json, Release& m) {
  return read_lease(json, m.lease);
}
core::Status read_into(JsonReader& json, GetStatus&) {
  return read_nothing(json);
}
core::Status read_into(JsonReader& json, Quiesce& m) {
  return read_members(json, std::array<std::string_view, 1>{"resume_after_ms"}, 0, [&](std::size_t) {
    return read_duration(json, m.resume_after.emplace(), milliseconds(1), milliseconds(kMaxResumeMs));
  });
}
core::Status read_into(JsonReader& json, Resume&) {
  return read_nothing(json);
}

core::Status read_agent_gpu(JsonReader& json, AgentGpu& gpu) {
  static constexpr std::array<std::string_view, 6> kNames = {"index",      "uuid",         "name",
                                                             "clocks_mhz", "controllable", "reason"};
  return json.object(kNames, kNames.size(), [&](std::size_t i) {
    switch (i) {
      case 0:
        return read_whole(json, gpu.index, 0, kMaxIndex);
      case 1:
        return read_gpu_name(json, gpu.uuid);
      case 2:
        return read_text(json, gpu.name, "name", kMaxProduct);
      case 3:
        return read_clocks(json, gpu.clocks);
      case 4:
        return read_bool(json, gpu.controllable);
      default:
        return read_text(json, gpu.reason, "reason", kMaxReason);
    }
  });
}

core::Status read_gpu_status_text(JsonReader& json, std::size_t i, GpuStatus& gpu) {
  switch (i) {
    case 1:
      return read_gpu_name(json, gpu.uuid);
    case 2:
      return read_text(json, gpu.name, "name", kMaxProduct);
    case 3:
      return read_text(json, gpu.state, "state", kMaxVersion);
    case 4:
      return read_text(json, gpu.reason, "reason", kMaxReason);
    default:
      return read_text(json, gpu.owner, "owner", kMaxOwner);
  }
}

core::Status read_gpu_status(JsonReader& json, GpuStatus& gpu) {
  static constexpr std::array<std::string_view, 14> kNames = {
      "index",   "uuid",     "name",          "state", "reason",        "intended_mhz", "sm_clock_mhz",
      "power_w", "energy_j", "temperature_c", "owner", "clock_changes", "refused",      "failed"};
  return json.object(kNames, kNames.size(), [&](std::size_t i) {
    switch (i) {
      case 0:
        return read_whole(json, gpu.index, 0, kMaxIndex);
      case 5:
        return read_optional_clock(json, gpu.intended);
      case 6:
        return read_optional_clock(json, gpu.sm_clock);
      case 7:
        return read_reading(json, gpu.power);
      case 8:
        return read_reading(json, gpu.energy);
      case 9:
        return read_reading(json, gpu.temperature);
      case 11:
        return read_whole(json, gpu.clock_changes, 0, kMaxId);
      case 12:
        return read_whole(json, gpu.refused, 0, kMaxId);
      case 13:
        return read_whole(json, gpu.failed, 0, kMaxId);
      default:
        return read_gpu_status_text(json, i, gpu);
    }
  });
}

core::Status read_into(JsonReader& json, Welcome& m) {
  return read_members(
      json, std::array<std::string_view, 4>{"protocol", "version", "backend", "gpus"}, 4,
      [&](std::size_t i) -> core::Status {
        if (i == 0) return read_whole(json, m.protocol, 1, kMaxIndex);
        if (i == 1) return read_text(json, m.version, "version", kMaxVersion);
        if (i == 2) return read_text(json, m.backend, "backend", kMaxVersion);
        return json.array(kMaxGpus, [&](std::size_t) { return read_agent_gpu(json, m.gpus.emplace_back()); });
      });
}

core::Status read_into(JsonReader& json, Acquired& m) {
  return read_members(
      json, std::array<std::string_view, 5>{"lease", "gpu", "baseline_mhz", "clocks_mhz", "time_to_live_ms"},
      5, [&](std::size_t i) {
        if (i == 0) return read_whole(json, m.lease, 1, kMaxId);
        if (i == 1) return read_gpu_name(json, m.gpu);
        if (i == 2) return read_optional_clock(json, m.baseline);
        if (i == 3) return read_clocks(json, m.clocks);
        return read_duration(json, m.time_to_live, kMinTimeToLive, kMaxTimeToLive);
      });
}

core::Status read_into(JsonReader& json, Ok&) {
  return read_nothing(json);
}

core::Status read_into(JsonReader& json, AgentStatus& m) {
  return read_members(
      json, std::array<std::string_view, 6>{"version", "backend", "driver", "quiesced", "uptime_s", "gpus"},
      6, [&](std::size_t i) -> core::Status {
        if (i == 0) return read_text(json, m.version, "version", kMaxVersion);
        if (i == 1) return read_text(json, m.backend, "backend", kMaxVersion);
        if (i == 2) return read_text(json, m.driver, "driver", kMaxVersion);
        if (i == 3) return read_bool(json, m.quiesced);
        if (i == 4) return read_real(json, m.uptime_s);
        return json.array(kMaxGpus,
                          [&](std::size_t) { return read_gpu_status(json, m.gpus.emplace_back()); });
      });
}

core::Status read_code(JsonReader& json, ErrorCode& code) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const std::string name, json.string());
  const auto row = std::ranges::find(core::error_table(), name, &core::ErrorInfo::name);
  if (row == core::error_table().end())
    return json.refuse(place, fmt::format("{} is no error code", quoted(name)));
  code = row->code;
  return {};
}

core::Status read_into(JsonReader& json, Refusal& m) {
  return read_members(json, std::array<std::string_view, 2>{"code", "message"}, 2, [&](std::size_t i) {
    return i == 0 ? read_code(json, m.code) : read_text(json, m.message, "message", kMaxMessage);
  });
}

core::Status read_into(JsonReader& json, Ended& m) {
  return read_members(json, std::array<std::string_view, 2>{"lease", "reason"}, 2, [&](std::size_t i) {
    return i == 0 ? read_whole(json, m.lease, 1, kMaxId) : read_text(json, m.reason, "reason", kMaxReason);
  });
}

/// Reads a message of type T into a variant.
template <class T, class Variant>
core::Result<Variant> read_as(JsonReader& json) {
  T message;
  PERSEUS_RETURN_IF_ERROR(read_into(json, message));
  return Variant(std::move(message));
}

template <class Variant>
struct Kind {
  std::string_view type;
  core::Result<Variant> (*read)(JsonReader&);
};

constexpr std::array kRequests = {
    Kind<AgentRequest>{"hello", read_as<Hello, AgentRequest>},
    Kind<AgentRequest>{"acquire", read_as<Acquire, AgentRequest>},
    Kind<AgentRequest>{"renew", read_as<Renew, AgentRequest>},
    Kind<AgentRequest>{"release", read_as<Release, AgentRequest>},
    Kind<AgentRequest>{"status", read_as<GetStatus, AgentRequest>},
    Kind<AgentRequest>{"quiesce", read_as<Quiesce, AgentRequest>},
    Kind<AgentRequest>{"resume", read_as<Resume, AgentRequest>},
};
constexpr std::array kReplies = {
    Kind<AgentReply>{"welcome", read_as<Welcome, AgentReply>},
    Kind<AgentReply>{"acquired", read_as<Acquired, AgentReply>},
    Kind<AgentReply>{"ok", read_as<Ok, AgentReply>},
    Kind<AgentReply>{"status", read_as<AgentStatus, AgentReply>},
    Kind<AgentReply>{"error", read_as<Refusal, AgentReply>},
    Kind<AgentReply>{"ended", read_as<Ended, AgentReply>},
};

template <class Variant, std::size_t count>
core::Result<Variant> parse(std::string_view packet, std::size_t limit,
                            const std::array<Kind<Variant>, count>& kinds, const std::string& source) {
  JsonReader json(packet, source);
  PERSEUS_RETURN_IF_ERROR(json.check(limit, "packet"));
  PERSEUS_ASSIGN_OR_RETURN(const std::string type, read_type(packet, source));
  const auto kind = std::ranges::find(kinds, type, &Kind<Variant>::type);
  if (kind == kinds.end())
    return json.refuse(0, fmt::format("{} is no type of a message here", quoted(type)));
  return kind->read(json);
}

}  // namespace

core::Result<AgentRequest> parse_agent_request(std::string_view packet) {
  return parse(packet, kMaxAgentRequest, kRequests, "request");
}

core::Result<AgentReply> parse_agent_reply(std::string_view packet) {
  return parse(packet, kMaxAgentPacket, kReplies, "reply");
}

}  // namespace perseus::wire
