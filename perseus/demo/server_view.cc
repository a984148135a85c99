// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/server_view.h"

#include <fmt/format.h>

#include "perseus/format/json_reader.h"

namespace perseus::demo {
namespace {

using format::JsonReader;

constexpr std::size_t kMaxBody = std::size_t{64} << 20U;    ///< as server::get()
constexpr std::size_t kMaxMembers = 1024;                   ///< of an object; the server's have some twenty
constexpr std::int64_t kMostWhole = 9'007'199'254'740'991;  ///< as the API describes whole numbers
constexpr std::string_view kNotice = "announced-by-the-demo";
constexpr core::Seconds kDeadline{5};  ///< of one question on this machine. Assumed

/// An object whose members are read by `member`, which answers false for what it does not know; or null.
template <class Member>
core::Status members(JsonReader& json, Member&& member) {
  if (json.take_null()) return {};
  return json.map(kMaxMembers, [&](const std::string& name) -> core::Status {
    PERSEUS_ASSIGN_OR_RETURN(const bool known, member(name));
    return known ? core::Status() : json.skip_value();
  });
}

/// Reads a value into `to` if it is not null.
template <class T, class Read>
core::Result<bool> into(JsonReader& json, std::optional<T>& to, Read&& read) {
  if (json.take_null()) return true;
  PERSEUS_ASSIGN_OR_RETURN(auto value, read());
  to = T(std::move(value));
  return true;
}
core::Result<bool> text_into(JsonReader& json, std::string& to) {
  PERSEUS_ASSIGN_OR_RETURN(to, json.string());
  return true;
}

core::Status read_figures(JsonReader& json, JobView& job) {
  if (json.take_null()) return {};
  Figures& figures = job.predicted.emplace();
  return members(json, [&](const std::string& name) -> core::Result<bool> {
    if (name != "time_s" && name != "energy_j") return false;
    PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
    if (name == "time_s") figures.time = core::Seconds(value);
    if (name == "energy_j") figures.energy = core::Joules(value);
    return true;
  });
}

core::Status read_deployment(JsonReader& json, JobView& job) {
  if (json.take_null()) return {};
  DeployedView& view = job.deployed.emplace();
  return members(json, [&](const std::string& name) -> core::Result<bool> {
    if (name == "generation") {
      PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, kMostWhole));
      view.generation = static_cast<std::uint64_t>(value);
      return true;
    }
    if (name == "reason") return text_into(json, view.reason);
    if (name == "baseline") {
      PERSEUS_ASSIGN_OR_RETURN(view.baseline, json.boolean());
      return true;
    }
    if (name == "from_step") return into(json, view.from_step, [&] { return json.integer(0, kMostWhole); });
    return false;
  });
}

core::Status read_notices(JsonReader& json, JobView& job) {
  return json.array(kMaxMembers, [&](std::size_t) {
    NoticeView& notice = job.notices.emplace_back();
    return members(json, [&](const std::string& name) -> core::Result<bool> {
      if (name == "id") return text_into(json, notice.id);
      if (name == "cause") return text_into(json, notice.cause);
      if (name == "pipeline") return into(json, notice.pipeline, [&] { return json.integer(0, kMostWhole); });
      if (name == "slowdown") return into(json, notice.slowdown, [&] { return json.number(); });
      return false;
    });
  });
}

core::Status read_guard(JsonReader& json, JobView& job) {
  return members(json, [&](const std::string& name) -> core::Result<bool> {
    if (name == "rank") return into(json, job.guard, [&] { return json.string(); });
    return false;
  });
}

core::Status read_profiling(JsonReader& json, JobView& job) {
  return members(json, [&](const std::string& name) -> core::Result<bool> {
    const auto whole = [&] { return json.integer(0, kMostWhole); };
    if (name == "windows_done") return into(json, job.windows_done, whole);
    if (name == "windows_planned") return into(json, job.windows_planned, whole);
    return false;
  });
}

/// The watts of each pipeline rank.
core::Status read_powers(JsonReader& json, std::vector<core::Watts>& powers) {
  return json.array(kMaxMembers, [&](std::size_t) {
    return members(json, [&](const std::string& name) -> core::Result<bool> {
      if (name != "power_w") return false;
      PERSEUS_ASSIGN_OR_RETURN(const double watts, json.number());
      powers.emplace_back(watts);
      return true;
    });
  });
}

core::Status read_facts(JsonReader& json, JobView& job) {
  std::vector<core::Watts> powers;
  const auto member = [&](const std::string& name) -> core::Result<bool> {
    if (name != "blocking_power") return false;
    PERSEUS_RETURN_IF_ERROR(read_powers(json, powers));
    return true;
  };
  PERSEUS_RETURN_IF_ERROR(members(json, member));
  if (powers.empty()) return {};
  core::Watts sum;
  for (const core::Watts power : powers) sum += power;
  job.blocking_power = sum / static_cast<double>(powers.size());
  return {};
}

/// Turns "read" into "known".
core::Result<bool> known(const core::Status& status) {
  if (!status) return std::unexpected(status.error());
  return true;
}

}  // namespace

core::Result<JobView> parse_job(std::string_view body) {
  JsonReader json(body, "the server's answer");
  PERSEUS_RETURN_IF_ERROR(json.check(kMaxBody, "job"));
  JobView job;
  PERSEUS_RETURN_IF_ERROR(members(json, [&](const std::string& name) -> core::Result<bool> {
    if (name == "state") return text_into(json, job.state);
    if (name == "planner_error") return into(json, job.planner_error, [&] { return json.string(); });
    if (name == "predicted") return known(read_figures(json, job));
    if (name == "deployment") return known(read_deployment(json, job));
    if (name == "notices") return known(read_notices(json, job));
    if (name == "guard") return known(read_guard(json, job));
    if (name == "profiling") return known(read_profiling(json, job));
    if (name == "profile_facts") return known(read_facts(json, job));
    return false;
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  return job;
}

std::string JobView::progress_text() const {
  if (state.empty()) return "not yet registered";
  if (!windows_done || !windows_planned || *windows_planned == 0) return state;
  return fmt::format("{}, window {} of {}", state, *windows_done, *windows_planned);
}

core::Result<JobView> ask_job(const server::ServerUrl& server, const std::string& job) {
  PERSEUS_ASSIGN_OR_RETURN(
      const std::string body,
      server::get(server, "/api/v1/jobs/" + job, {.token = {}, .ca_file = {}, .deadline = kDeadline}));
  return parse_job(body);
}

core::Status announce_straggler(const server::ServerUrl& server, const std::string& job,
                                std::uint32_t pipeline, double slowdown) {
  const std::string notice = fmt::format(
      R"({{"id":"{}","pipeline":{},"slowdown":{},"cause":"the demo announced that pipeline {} is slow"}})",
      kNotice, pipeline, slowdown, pipeline);
  PERSEUS_ASSIGN_OR_RETURN([[maybe_unused]] const std::string accepted,
                           server::post(server, fmt::format("/api/v1/jobs/{}/stragglers", job), notice));
  return {};
}

core::Status withdraw_straggler(const server::ServerUrl& server, const std::string& job) {
  PERSEUS_ASSIGN_OR_RETURN(
      [[maybe_unused]] const std::string nothing,
      server::remove(server, fmt::format("/api/v1/jobs/{}/stragglers/{}", job, kNotice)));
  return {};
}

}  // namespace perseus::demo
