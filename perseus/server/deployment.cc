// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/deployment.h"

#include <array>
#include <map>

#include "perseus/format/json_reader.h"
#include "perseus/server/json_text.h"

namespace perseus::server {
namespace {

using core::Status;
using format::JsonReader;

/// A deployment names at most one plan and one time for each pipeline.
constexpr std::size_t kMostPipelines = 65'536;
constexpr std::size_t kMostBytes = std::size_t{16} << 20U;
constexpr std::int64_t kMostSteps = 1'000'000;

Status read_whole(JsonReader& json, std::uint64_t& to) {
  PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, kLargestWhole));
  to = static_cast<std::uint64_t>(value);
  return {};
}

Status read_text(JsonReader& json, std::string& to) {
  PERSEUS_ASSIGN_OR_RETURN(to, json.string());
  return {};
}

Status read_targets(JsonReader& json, std::optional<Targets>& to) {
  static constexpr std::array<std::string_view, 2> kNames = {"sync_s", "pipelines_s"};
  if (json.take_null()) return {};
  to.emplace();
  return json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
    const auto one = [&](core::Seconds& time) -> Status {
      PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
      time = core::Seconds(value);
      return {};
    };
    if (name == 0) return one(to->sync);
    return json.array(kMostPipelines, [&](std::size_t) { return one(to->pipeline.emplace_back()); });
  });
}

}  // namespace

void append_windows(JsonText& out, std::span<const SweepWindow> windows) {
  out.begin_array();
  for (const SweepWindow& window : windows) {
    out.begin_object().key("steps").number(window.steps).key("skip").number(window.skip);
    out.key("ranks").begin_array();
    for (const auto& rank : window.ranks) {
      out.begin_array();
      for (const WorkClock& c : rank) {
        out.text(to_text(EnergyColumn{false, c.work.kind, c.work.stage, c.clock}));
      }
      out.end_array();
    }
    out.end_array().end_object();
  }
  out.end_array();
}

core::Status read_windows(JsonReader& json, std::vector<SweepWindow>& to) {
  static constexpr std::array<std::string_view, 3> kNames = {"steps", "skip", "ranks"};
  return json.array(kMostPipelines, [&](std::size_t) -> Status {
    SweepWindow& window = to.emplace_back();
    return json.object(kNames, kNames.size(), [&](std::size_t name) -> Status {
      if (name < 2) {
        PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, kMostSteps));
        (name == 0 ? window.steps : window.skip) = static_cast<std::uint32_t>(value);
        return {};
      }
      return json.array(kMostPipelines, [&](std::size_t) -> Status {
        auto& rank = window.ranks.emplace_back();
        return json.array(kMostPipelines, [&](std::size_t) -> Status {
          PERSEUS_ASSIGN_OR_RETURN(const std::string text, json.string());
          PERSEUS_ASSIGN_OR_RETURN(const EnergyColumn column, parse_energy_column(text));
          if (column.idle) return core::fail(core::ErrorCode::kInvalidInput, "a window cannot set idle");
          rank.push_back({{column.kind, column.stage}, column.clock});
          return {};
        });
      });
    });
  });
}

std::string write_deployment(const Deployment& d) {
  JsonText out;
  out.begin_object().key("generation").number(d.generation).key("incarnation").number(d.incarnation);
  out.key("schedule_sha256").text(d.schedule_sha256).key("reason").text(d.reason);
  out.key("profile_sha256").text(d.profile_sha256).key("from_step").number(d.from_step);
  out.key("targets");
  if (d.targets) {
    out.begin_object().key("sync_s").number(d.targets->sync.value()).key("pipelines_s").begin_array();
    for (const core::Seconds t : d.targets->pipeline) out.number(t.value());
    out.end_array().end_object();
  } else {
    out.null();
  }
  out.key("plans").begin_array();
  for (const auto& plan : d.plans) out.text(plan->sha256);
  out.end_array();
  if (!d.windows.empty()) {
    out.key("windows");
    append_windows(out, d.windows);
  }
  out.end_object();
  return out.take();
}

core::Result<StoredDeployment> parse_deployment(std::string_view text) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "generation", "incarnation", "schedule_sha256", "reason", "profile_sha256",
      "from_step",  "targets",     "plans",           "windows"};
  constexpr std::size_t kNeeded = 8;
  JsonReader json(text, "stored deployment");
  StoredDeployment out;
  Deployment& d = out.deployment;
  PERSEUS_RETURN_IF_ERROR(json.check(kMostBytes, "deployment"));
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNeeded, [&](std::size_t name) -> Status {
    switch (name) {
      case 0:
        return read_whole(json, d.generation);
      case 1:
        return read_whole(json, d.incarnation);
      case 2:
        return read_text(json, d.schedule_sha256);
      case 3:
        return read_text(json, d.reason);
      case 4:
        return read_text(json, d.profile_sha256);
      case 5:
        return json.take_null() ? Status() : read_whole(json, d.from_step.emplace());
      case 6:
        return read_targets(json, d.targets);
      case 7:
        return json.array(kMostPipelines,
                          [&](std::size_t) { return read_text(json, out.plans.emplace_back()); });
      default:
        return read_windows(json, d.windows);
    }
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  return out;
}

std::vector<Change> records_of(const std::string& job, const Deployment& deployment) {
  std::map<std::string, std::shared_ptr<const PlanBody>> distinct;
  for (const auto& plan : deployment.plans) distinct.emplace(plan->sha256, plan);
  std::vector<Change> out;
  GenerationRecord record{job, deployment.generation, write_deployment(deployment), {}};
  for (const auto& [sha256, plan] : distinct) {
    out.emplace_back(PlanRecord{sha256, plan->json});
    record.plans.push_back(sha256);
  }
  out.emplace_back(std::move(record));
  return out;
}

}  // namespace perseus::server
