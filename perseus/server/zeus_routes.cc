// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/zeus_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "perseus/core/profile.h"
#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/server/json_text.h"
#include "perseus/server/service.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;
using core::Seconds;
using core::Status;
using format::JsonReader;

constexpr Seconds kIdleLife{7 * 86'400.0};  ///< Zeus's own max_job_idle_time
constexpr std::size_t kMostJobs = 1024;
constexpr std::uint32_t kMostRanks = 65'536;

Status read_number(JsonReader& json, std::uint32_t& to, std::uint32_t least) {
  PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(least, kMostRanks));
  to = static_cast<std::uint32_t>(value);
  return {};
}

/// An object of which only some members are of interest; the first `needed` of `names` must be there, none
/// may come twice.
template <class Member>
Status lenient_body(JsonReader& json, std::span<const std::string_view> names, std::size_t needed,
                    Member&& member) {
  PERSEUS_RETURN_IF_ERROR(json.check(Limits{}.message_bytes, "request body"));
  std::set<std::string> seen;
  const std::size_t start = json.mark();
  const Status read = json.map(1024, [&](const std::string& name) -> Status {
    const std::size_t place = json.mark();
    if (!seen.insert(name).second) {
      return json.refuse(place, fmt::format("member {} is there twice", format::quoted(name)));
    }
    const auto known = std::ranges::find(names, name);
    return known == names.end() ? json.skip_value() : member(static_cast<std::size_t>(known - names.begin()));
  });
  if (!read) return std::unexpected(read.error());
  for (const std::string_view name : names.first(needed)) {
    if (!seen.contains(std::string(name))) {
      return json.refuse(start, fmt::format("member {} is missing", format::quoted(name)));
    }
  }
  return json.end();
}

/// Zeus's form of a refusal: FastAPI's for a body that is not of its shape, a text for all else.
HttpResponse zeus_error(const core::Error& error, unsigned status) {
  JsonText out;
  out.begin_object().key("detail");
  if (status == 422) {
    out.begin_array().begin_object().key("loc").begin_array().text("body").end_array();
    out.key("msg").text(error.text()).key("type").text("value_error").end_object().end_array();
  } else {
    out.text(error.text());
  }
  return json_response(out.end_object().take(), status);
}

HttpResponse zeus_error(const core::Error& error) {
  return zeus_error(error, http_status(error.code()));
}

}  // namespace

core::Result<ZeusJobInfo> parse_zeus_job(std::string_view body) {
  static constexpr std::array<std::string_view, 6> kNames = {"job_id",    "pp_degree",  "dp_degree",
                                                             "tp_degree", "world_size", "job_metadata"};
  JsonReader json(body, "body");
  ZeusJobInfo out;
  PERSEUS_RETURN_IF_ERROR(lenient_body(json, kNames, 5, [&](std::size_t name) -> Status {
    const std::size_t place = json.mark();
    switch (name) {
      case 0: {
        PERSEUS_ASSIGN_OR_RETURN(const std::string id, json.string());
        return id.empty() ? Status() : json.refuse(place, "job_id must be empty: the server makes it");
      }
      case 1:
        return read_number(json, out.pp, 1);
      case 2:
        return read_number(json, out.dp, 1);
      case 3:
        return read_number(json, out.tp, 1);
      case 4:
        return read_number(json, out.world_size, 1);
      default: {
        if (json.take_null()) return {};
        PERSEUS_ASSIGN_OR_RETURN(out.metadata, json.string());
        return {};
      }
    }
  }));
  if (std::uint64_t{out.pp} * out.dp * out.tp != out.world_size) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("pp_degree x dp_degree x tp_degree is {}, world_size {}",
                            std::uint64_t{out.pp} * out.dp * out.tp, out.world_size));
  }
  return out;
}

core::Result<ZeusRankInfo> parse_zeus_rank(std::string_view body) {
  static constexpr std::array<std::string_view, 5> kNames = {"rank", "dp_rank", "pp_rank", "tp_rank",
                                                             "available_frequencies"};
  JsonReader json(body, "body");
  ZeusRankInfo out;
  PERSEUS_RETURN_IF_ERROR(lenient_body(json, kNames, kNames.size(), [&](std::size_t name) -> Status {
    switch (name) {
      case 0:
        return read_number(json, out.rank, 0);
      case 1:
        return read_number(json, out.place.dp, 0);
      case 2:
        return read_number(json, out.place.pp, 0);
      case 3:
        return read_number(json, out.place.tp, 0);
      default:
        return json.array(4096, [&](std::size_t) -> Status {
          PERSEUS_ASSIGN_OR_RETURN(const std::int64_t mhz, json.integer(1, core::kMaxClockMhz));
          out.clocks_mhz.push_back(static_cast<std::uint32_t>(mhz));
          return {};
        });
    }
  }));
  return out;
}

core::Result<ZeusResult> parse_zeus_result(std::string_view body) {
  static constexpr std::array<std::string_view, 1> kNames = {"rank"};
  JsonReader json(body, "body");
  ZeusResult out;
  PERSEUS_RETURN_IF_ERROR(
      lenient_body(json, kNames, 1, [&](std::size_t) { return read_number(json, out.rank, 0); }));
  return out;
}

void ZeusRoutes::handle(const HttpRequest& request, const Reply& reply) {
  const auto& path = request.target.path;
  const std::string_view method = path.front() == "schedule" ? "GET" : "POST";
  if (request.method != method) {
    HttpResponse answer = zeus_error(core::Error(ErrorCode::kUsage, "Method Not Allowed"), 405);
    answer.allow = method;
    return reply(std::move(answer));
  }
  if (path.size() == 1) return register_job(request, reply);
  const auto found = jobs_.find(path[1]);
  if (found == jobs_.end()) {
    return reply(
        zeus_error(core::Error(ErrorCode::kNotFound, fmt::format("no job {}", format::quoted(path[1])))));
  }
  found->second.last_used = service_.now();
  if (path[0] == "register_rank") return register_rank(found->second, request, reply);
  if (path[0] == "schedule") return get_schedule(found->second, request, reply);
  post_result(found->second, request, reply);
}

void ZeusRoutes::register_job(const HttpRequest& request, const Reply& reply) {
  auto info = parse_zeus_job(request.body);
  if (!info) return reply(zeus_error(info.error(), 422));
  const auto refuse = [&](std::string message) {
    reply(zeus_error(core::Error(ErrorCode::kInvalidInput, std::move(message))));
  };
  const std::size_t at = std::min(info->metadata.find('@'), info->metadata.size());
  const std::string name = info->metadata.substr(0, at);
  const std::string sha256 = info->metadata.substr(std::min(info->metadata.size(), at + 1));
  if (at != info->metadata.size() &&
      (sha256.size() < 8 || sha256.find_first_not_of("0123456789abcdef") != std::string::npos)) {
    return refuse("job_metadata: behind '@' stand 8 or more hexadecimal digits of a profile's SHA-256");
  }
  const JobState* job = service_.find_job(name);
  if (job == nullptr) {
    return refuse(
        fmt::format("job_metadata is {}; it must name a job that was registered under /api/v1/jobs, since "
                    "Zeus's protocol tells neither schedule nor profile",
                    format::quoted(name)));
  }
  if (!service_.has_profile(name)) return refuse(fmt::format("job {} has no profile yet", name));
  const core::Parallel& degrees = job->registration().parallel;
  const std::uint32_t pipeline = job->registration().schedule.pipeline();
  if (info->pp != pipeline || info->dp != degrees.data || info->tp != degrees.tensor) {
    return refuse(fmt::format("pp, dp, tp are {}, {}, {}; job {} has {}, {}, {}", info->pp, info->dp,
                              info->tp, name, pipeline, degrees.data, degrees.tensor));
  }
  if (jobs_.size() >= kMostJobs) {
    return reply(
        zeus_error(core::Error(ErrorCode::kLimit, fmt::format("{} jobs; the limit", kMostJobs)), 503));
  }
  // Zeus's ids have a resolution of one second; the number tells two of one second apart.
  std::string moment = utc_text(service_.wall_ms()).substr(0, 19);
  std::ranges::replace_if(moment, [](char c) { return c == ':' || c == 'T'; }, '-');
  const std::string id =
      fmt::format("{}+dp{}+pp{}+tp{}+Perseus+{}+{}", moment, info->dp, info->pp, info->tp, name, next_++);
  jobs_.emplace(id,
                Job{.job = name, .sha256 = sha256, .info = *std::move(info), .last_used = service_.now()});
  service_.log().write(Level::kInfo, "zeus.registered", {{"job", name}, {"id", id}});
  JsonText out;
  out.text(id);
  reply(json_response(out.take()));
}

void ZeusRoutes::register_rank(Job& job, const HttpRequest& request, const Reply& reply) {
  auto info = parse_zeus_rank(request.body);
  if (!info) return reply(zeus_error(info.error(), 422));
  const ZeusJobInfo& all = job.info;
  const bool fits = info->rank < all.world_size && info->place.dp < all.dp && info->place.pp < all.pp &&
                    info->place.tp < all.tp;
  if (!fits) {
    return reply(zeus_error(core::Error(ErrorCode::kInvalidInput, "a rank outside the job's degrees")));
  }
  for (const auto& [rank, other] : job.ranks) {
    if (rank != info->rank && other.place == info->place) {
      return reply(
          zeus_error(core::Error(ErrorCode::kInvalidInput,
                                 fmt::format("rank {} stands at {} already", rank, to_text(info->place)))));
    }
  }
  const auto rank = info->rank;
  job.ranks.insert_or_assign(rank, *std::move(info));
  reply(json_response("null"));
  answer_if_ready(job);
}

void ZeusRoutes::get_schedule(Job& job, const HttpRequest& request, const Reply& reply) {
  const auto text = request.target.find("rank");
  const auto rank = text ? format::parse_integer<std::uint32_t>(*text) : std::nullopt;
  if (!rank || *rank >= job.info.world_size) {
    return reply(zeus_error(
        core::Error(ErrorCode::kInvalidInput, "query parameter 'rank' is missing or no rank"), 422));
  }
  job.waiting[*rank].push_back(reply);
  answer_if_ready(job);
}

void ZeusRoutes::post_result(Job& job, const HttpRequest& request, const Reply& reply) {
  const auto result = parse_zeus_result(request.body);
  if (!result) return reply(zeus_error(result.error(), 422));
  if (result->rank >= job.info.world_size) {
    return reply(zeus_error(core::Error(ErrorCode::kInvalidInput, "no such rank")));
  }
  job.results[result->rank] = true;
  if (job.results.size() == job.info.world_size)
    job.results.clear();  // the round is over; the plan is the newest
  reply(json_response("null"));
}

core::Result<std::string> ZeusRoutes::schedule_of(const Job& job, std::uint32_t rank) const {
  const JobState& state = *service_.find_job(job.job);
  const Deployment& deployment = *state.deployment();
  const ZeusRankInfo& info = job.ranks.at(rank);
  if (info.place.dp >= deployment.plans.size() ||
      info.place.pp >= deployment.plans[info.place.dp]->zeus_rows.size()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("job {} was registered anew with other degrees", job.job));
  }
  const auto& row = deployment.plans[info.place.dp]->zeus_rows[info.place.pp];
  JsonText out;
  out.begin_object().key("rank").number(rank).key("frequencies").begin_array();
  for (const auto& [name, mhz] : row) {
    const bool offered = mhz == 0 || info.clocks_mhz.empty() ||
                         std::ranges::find(info.clocks_mhz, mhz) != info.clocks_mhz.end();
    if (!offered) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("the profile of job {} asks for {} MHz, which rank {} does not offer", job.job,
                              mhz, rank));
    }
    out.begin_array().text(name).number(mhz).end_array();
  }
  out.end_array().end_object();
  return out.take();
}

void ZeusRoutes::answer_if_ready(Job& job) {
  const auto refuse_all = [&](const std::string& why) {
    const auto waiting = std::exchange(job.waiting, {});
    for (const auto& [rank, replies] : waiting) {
      for (const Reply& reply : replies) reply(zeus_error(core::Error(ErrorCode::kInvalidInput, why)));
    }
  };
  const JobState* state = service_.find_job(job.job);
  if (state == nullptr || state->ended()) return refuse_all(fmt::format("job {} is over", job.job));
  const bool all_here =
      job.ranks.size() == job.info.world_size && (job.answered || job.waiting.size() == job.info.world_size);
  if (!all_here || job.waiting.empty()) return;
  if (!state->planner_error().empty() && !state->solved()) return refuse_all(state->planner_error());
  const auto& deployment = state->deployment();
  if (!deployment || deployment->plans.empty() || deployment->incarnation != state->incarnation()) return;
  if (!deployment->profile_sha256.starts_with(job.sha256)) {
    return refuse_all(fmt::format("job {} is planned from profile {}, not {}", job.job,
                                  deployment->profile_sha256, job.sha256));
  }
  job.answered = true;
  const auto waiting = std::exchange(job.waiting, {});
  for (const auto& [rank, replies] : waiting) {
    const auto text = schedule_of(job, rank);
    for (const Reply& reply : replies) reply(text ? json_response(*text) : zeus_error(text.error()));
  }
}

void ZeusRoutes::job_changed(const std::string& name) {
  for (auto& [id, job] : jobs_) {
    if (job.job == name) answer_if_ready(job);
  }
}

void ZeusRoutes::sweep() {
  const Moment now = service_.now();
  std::erase_if(jobs_, [&](const auto& entry) {
    return entry.second.waiting.empty() && now > entry.second.last_used + kIdleLife;
  });
}

void ZeusRoutes::release_waiters() {
  for (auto& [id, job] : jobs_) {
    const auto waiting = std::exchange(job.waiting, {});
    for (const auto& [rank, replies] : waiting) {
      for (const Reply& reply : replies)
        reply(zeus_error(core::Error(ErrorCode::kTimeout, "the server stops")));
    }
  }
}

}  // namespace perseus::server
