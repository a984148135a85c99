// SPDX-License-Identifier: Apache-2.0
//
// What each path does. schema/openapi.yaml describes the same to others.
#include <fmt/format.h>

#include <algorithm>

#include "perseus/format/profile_csv.h"
#include "perseus/format/sha256.h"
#include "perseus/server/json_text.h"
#include "perseus/server/service.h"
#include "perseus/server/zeus_routes.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;
using core::Seconds;

HttpResponse not_found() {
  return error_response(404, "not_found", "there is nothing at this path");
}
HttpResponse forbidden() {
  return error_response(403, "permission", "the token is not for this");
}

/// A whole number of a query parameter, or `otherwise` where it is not given.
core::Result<std::uint64_t> number_of(const Target& target, std::string_view name, std::uint64_t otherwise) {
  const auto text = target.find(name);
  if (!text) return otherwise;
  const auto value = format::parse_integer<std::uint64_t>(*text);
  if (value && *value <= static_cast<std::uint64_t>(kLargestWhole)) return *value;
  return fail(ErrorCode::kInvalidInput, fmt::format("query parameter '{}' is {}, not a whole number up to {}",
                                                    name, format::quoted(*text), kLargestWhole));
}

core::Status check_query(const Target& target, std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : target.query) {
    if (std::ranges::find(known, name) == known.end()) {
      return fail(ErrorCode::kInvalidInput, fmt::format("unknown query parameter {}", format::quoted(name)));
    }
  }
  return {};
}

/// Bodies must say what they are: a browser cannot be made to send these types across sites without asking
/// first.
core::Status check_type(const HttpRequest& request, std::string_view wanted) {
  const std::string_view given =
      std::string_view(request.content_type).substr(0, request.content_type.find(';'));
  if (given == wanted) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("Content-Type is {}; this path takes {}", format::quoted(given), wanted));
}

}  // namespace

bool Service::is_zeus(const Target& target) const {
  if (target.path.empty() || target.path.size() > 2) return false;
  const std::string& first = target.path.front();
  if (first == "register_job") return target.path.size() == 1;
  return target.path.size() == 2 && (first == "register_rank" || first == "schedule" || first == "result");
}

std::size_t Service::body_limit(const Target& target) const {
  const auto& path = target.path;
  const bool of_job = path.size() >= 4 && path[0] == "api" && path[2] == "jobs";
  if (of_job && path.size() == 4) return limits_.registration_bytes;
  if (of_job && path.size() == 5 && path[4] == "profile") return limits_.profile_bytes;
  if (of_job && path.size() == 7 && (path[6] == "windows" || path[6] == "measurements"))
    return limits_.report_bytes;
  // Zeus's results hold one list a computation and iteration.
  if (path.size() == 2 && path[0] == "result") return limits_.registration_bytes;
  return limits_.message_bytes;
}

std::size_t Service::body_limit_most() const {
  return std::max({limits_.registration_bytes, limits_.profile_bytes, limits_.message_bytes});
}

void Service::handle_zeus(HttpRequest request, Reply reply) {
  const Reply counted = [this, reply = std::move(reply)](HttpResponse answer) {
    ++counters_.responses[answer.status];
    reply(std::move(answer));
  };
  if (!is_zeus(request.target)) return counted(not_found());
  zeus_->handle(request, counted);
}

void Service::handle(const Principal& principal, HttpRequest request, Reply reply) {
  Reply counted = [this, reply = std::move(reply)](HttpResponse answer) {
    ++counters_.responses[answer.status];
    reply(std::move(answer));
  };
  route(principal, request, counted);
}

void Service::route(const Principal& principal, HttpRequest& request, Reply& reply) {
  const auto& path = request.target.path;
  if (path.size() == 1 && path[0] == "metrics") {
    if (request.method != "GET") return reply(method_not_allowed("GET"));
    if (!principal.may_read("")) return reply(forbidden());
    HttpResponse answer = json_response(metrics_text());
    answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    return reply(std::move(answer));
  }
  if (path.size() < 3 || path[0] != "api" || path[1] != "v1" || path[2] != "jobs") return reply(not_found());
  if (path.size() > 3) return route_job(principal, request, reply);
  if (request.method != "GET") return reply(method_not_allowed("GET"));
  list_jobs(principal, reply);
}

void Service::route_job(const Principal& principal, HttpRequest& request, Reply& reply) {
  const auto& path = request.target.path;
  const std::string name = path[3];
  if (const auto fits = check_name(name, "job"); !fits) return reply(error_response(fits.error()));
  const bool reads = request.method == "GET";
  // A rank that asks for its plan is noted as alive: that is a change.
  const bool changes = !reads || (path.size() == 7 && path[4] == "ranks");
  if (changes ? !principal.may_change(name) : !principal.may_read(name)) return reply(forbidden());
  if (path.size() == 4 && request.method == "PUT") return register_job(name, request, reply);
  const JobPtr job = job_named(name);
  if (!job) return reply(error_response(404, "not_found", fmt::format("there is no job {}", name)));
  if (path.size() == 4) {
    if (reads) return reply(json_response(job_detail(*job)));
    if (request.method == "DELETE") return end_job(job, reply);
    return reply(method_not_allowed("GET, PUT, DELETE"));
  }
  if (path[4] == "ranks") return route_rank(job, request, reply);
  if (path[4] == "stragglers") return route_stragglers(job, request, reply);
  if (path.size() != 5) return reply(not_found());
  route_part(job, request, reply);
}

void Service::route_part(const JobPtr& job, HttpRequest& request, const Reply& reply) {
  const std::string& part = request.target.path[4];
  const bool reads = request.method == "GET";
  if (part == "profile") {
    if (request.method == "PUT") return upload_profile(job, request, reply);
    if (!reads) return reply(method_not_allowed("GET, PUT"));
    if (job->profile_csv.empty()) return reply(error_response(404, "not_found", "the job has no profile"));
    HttpResponse answer = json_response(job->profile_csv);
    answer.content_type = "text/csv";
    return reply(std::move(answer));
  }
  if (part == "guard") {
    if (request.method != "DELETE") return reply(method_not_allowed("DELETE"));
    job->state.release_guard();
    log().write(Level::kInfo, "guard.released", {{"job", job->state.name()}});
    reply({.status = 204, .content_type = "", .body = nullptr});
    return advance(job);
  }
  if (part != "frontier" && part != "plan") return reply(not_found());
  if (!reads) return reply(method_not_allowed("GET"));
  if (part == "frontier") return get_frontier(job, request.target, reply);
  get_plan_file(job, request.target, reply);
}

void Service::route_stragglers(const JobPtr& job, HttpRequest& request, const Reply& reply) {
  const auto& path = request.target.path;
  if (path.size() == 6) {
    if (request.method != "DELETE") return reply(method_not_allowed("DELETE"));
    return delete_straggler(job, path[5], reply);
  }
  if (path.size() != 5) return reply(not_found());
  if (request.method == "GET") return reply(json_response(notices_json(*job)));
  if (request.method == "POST") return post_straggler(job, request, reply);
  reply(method_not_allowed("GET, POST"));
}

Service::JobPtr Service::job_named(const std::string& name) const {
  const auto found = jobs_.find(name);
  return found == jobs_.end() ? nullptr : found->second;
}

void Service::register_job(const std::string& name, HttpRequest& request, const Reply& reply) {
  if (const auto fits = check_type(request, "application/json"); !fits)
    return reply(error_response(fits.error()));
  auto registration = parse_registration(request.body, limits_);
  if (!registration) return reply(error_response(registration.error()));
  const auto shared = std::make_shared<Registration>(*std::move(registration));
  enqueue(name,
          [this, name, body = std::move(request.body), shared, reply](const std::function<void()>& finished) {
            store_registration(name, body, *shared, reply, finished);
          });
}

void Service::store_registration(const std::string& name, const std::string& body, Registration registration,
                                 const Reply& reply, const std::function<void()>& finished) {
  const auto fence = fence_of(registration);
  const JobPtr job = job_named(name);
  core::Result<bool> is_next = true;
  if (!fence) {
    is_next = std::unexpected(fence.error());
  } else if (job) {
    is_next = job->state.is_next(registration, *fence);
  } else if (jobs_.size() >= limits_.jobs) {
    is_next = fail(ErrorCode::kLimit, fmt::format("{} jobs; the limit is {}", jobs_.size(), limits_.jobs));
  }
  if (!is_next || !*is_next) {
    reply(is_next ? json_response(job_summary(*job)) : error_response(is_next.error()));
    return finished();
  }
  JobRecord record{name, registration.incarnation, body, false};
  outside_.store({std::move(record)}, [this, name, body, registration = std::move(registration),
                                       fence = *fence, reply, finished](const core::Status& stored) {
    if (!stored) {
      ++counters_.store_failures;
      reply(error_response(stored.error()));
      return finished();
    }
    const bool fresh = !job_named(name);
    apply_registration(name, body, registration, fence);
    reply(json_response(job_summary(*job_named(name)), fresh ? 201 : 200));
    finished();
    advance(job_named(name));
  });
}

void Service::apply_registration(const std::string& name, std::string body, Registration registration,
                                 const std::string& fence) {
  JobPtr job = job_named(name);
  const std::string incarnation = std::to_string(registration.incarnation);
  bool anew = false;
  if (!job) {
    job = std::make_shared<Job>(Job{.state = JobState(name, std::move(registration), fence, settings_)});
    jobs_.emplace(name, job);
  } else {
    anew = job->state.begin_incarnation(std::move(registration), fence);
    if (anew && job->sweep_stage != SweepStage::kNone) drop_sweep(*job);
    auto waiters = std::exchange(job->waiters, {});
    const core::Error over(ErrorCode::kBusy,
                           fmt::format("job {} is in incarnation {} now", name, incarnation));
    for (auto& [rank, waiter] : waiters) waiter.reply(error_response(over));
  }
  job->registration_body = std::move(body);
  log().write(Level::kInfo, "job.registered",
              {{"job", name}, {"incarnation", incarnation}, {"schedule_sha256", fence}});
  if (anew) start_solving(job);
}

void Service::end_job(const JobPtr& job, const Reply& reply) {
  enqueue(job->state.name(), [this, job, reply](const std::function<void()>& finished) {
    JobRecord record{job->state.name(), job->state.incarnation(), job->registration_body, true};
    outside_.store({std::move(record)}, [this, job, reply, finished](const core::Status& stored) {
      if (!stored) ++counters_.store_failures;
      // Whether or not that could be noted, clocks go back.
      job->state.end();
      log().write(Level::kInfo, "job.ended", {{"job", job->state.name()}});
      reply(stored ? json_response(job_summary(*job)) : error_response(stored.error()));
      finished();
      advance(job);
    });
  });
}

void Service::upload_profile(const JobPtr& job, HttpRequest& request, const Reply& reply) {
  if (const auto fits = check_type(request, "text/csv"); !fits) return reply(error_response(fits.error()));
  struct Read {
    std::string csv, sha256, answer;
    core::Status fits;
  };
  const auto read = std::make_shared<Read>();
  read->csv = std::move(request.body);
  const std::uint32_t stages = job->state.registration().schedule.stages();
  // A profile of 64 MiB takes seconds to read: not on this thread.
  const auto work = [read, stages] {
    const auto digest = format::sha256_hex(read->csv);
    const auto parsed = format::parse_profile_csv(read->csv, "profile");
    read->fits = !digest   ? core::Status(std::unexpected(digest.error()))
                 : !parsed ? core::Status(std::unexpected(parsed.error()))
                           : format::check_stages(parsed->profile, stages, {"profile"});
    if (!read->fits) return;
    read->sha256 = *digest;
    std::size_t options = 0;
    for (const auto& entry : parsed->profile.entries) options += entry.options.size();
    JsonText out;
    out.begin_object().key("sha256").text(read->sha256).key("options").number(options);
    out.key("warnings").begin_array();
    for (const core::Warning& warning : parsed->warnings) out.text(warning.text());
    read->answer = out.end_array().end_object().take();
  };
  outside_.run_long(work, [this, job, read, reply] {
    if (!read->fits) return reply(error_response(read->fits.error()));
    store_profile(job, read->csv, read->sha256, read->answer, reply);
  });
}

void Service::store_profile(const JobPtr& job, const std::string& csv, const std::string& sha256,
                            const std::string& answer, const Reply& reply) {
  enqueue(job->state.name(), [this, job, csv, sha256, answer, reply](const std::function<void()>& finished) {
    ProfileRecord record{job->state.name(), sha256, csv};
    outside_.store(
        {std::move(record)}, [this, job, csv, sha256, answer, reply, finished](const core::Status& stored) {
          if (!stored) {
            ++counters_.store_failures;
            reply(error_response(stored.error()));
            return finished();
          }
          const bool fresh = job->profile_sha256 != sha256 || !job->state.solved();
          job->profile_csv = csv;
          job->profile_sha256 = sha256;
          job->profile_origin = "uploaded";
          job->reprofile_why.clear();
          if (job->sweep_stage != SweepStage::kNone) drop_sweep(*job);
          log().write(Level::kInfo, "profile.stored", {{"job", job->state.name()}, {"sha256", sha256}});
          reply(json_response(answer));
          finished();
          if (fresh) start_solving(job);
        });
  });
}

void Service::post_straggler(const JobPtr& job, HttpRequest& request, const Reply& reply) {
  if (const auto fits = check_type(request, "application/json"); !fits)
    return reply(error_response(fits.error()));
  auto notice = parse_straggler_notice(request.body, job->state.name());
  if (!notice) return reply(error_response(notice.error()));
  const auto shared = std::make_shared<StragglerNotice>(*std::move(notice));
  enqueue(job->state.name(), [this, job, shared, body = std::move(request.body),
                              reply](const std::function<void()>& finished) {
    const std::string id =
        shared->id ? *shared->id : fmt::format("n{}-{}", outside_.wall_ms(), next_notice_++);
    core::Status fits = job->state.check_notice(*shared);
    const bool known = job->state.notices().contains(id);
    if (fits && !known && job->state.notices().size() >= limits_.notices_of_job) {
      fits = fail(ErrorCode::kLimit,
                  fmt::format("{} notices; the limit is {}", limits_.notices_of_job, limits_.notices_of_job));
    }
    Seconds ttl = shared->ttl.value_or(settings_.notice_ttl);
    if (shared->until_unix_ms)
      ttl = Seconds(static_cast<double>(*shared->until_unix_ms - outside_.wall_ms()) / 1000);
    if (fits && (ttl <= Seconds(0) || ttl > settings_.notice_ttl_most)) {
      fits = fail(ErrorCode::kInvalidInput,
                  fmt::format("the notice would end in {} s; it must be within 0 to {} s",
                              format::number_text(ttl.value()),
                              format::number_text(settings_.notice_ttl_most.value())));
    }
    if (!fits) {
      reply(error_response(fits.error()));
      return finished();
    }
    const auto until_ms = outside_.wall_ms() + static_cast<std::int64_t>(ttl.value() * 1000);
    NoticeRecord record{job->state.name(), id, body, until_ms};
    outside_.store({std::move(record)},
                   [this, job, shared, id, ttl, reply, known, finished](const core::Status& stored) {
                     if (!stored) {
                       ++counters_.store_failures;
                       reply(error_response(stored.error()));
                       return finished();
                     }
                     job->state.put_notice(id, *shared, outside_.now() + ttl);
                     log().write(Level::kInfo, "straggler.noticed",
                                 {{"job", job->state.name()}, {"id", id}, {"cause", shared->cause}});
                     JsonText out;
                     out.begin_object().key("id").text(id).key("ttl_s").number(ttl.value()).end_object();
                     reply(json_response(out.take(), known ? 200 : 201));
                     finished();
                     advance(job);
                   });
  });
}

void Service::delete_straggler(const JobPtr& job, const std::string& id, const Reply& reply) {
  enqueue(job->state.name(), [this, job, id, reply](const std::function<void()>& finished) {
    if (!job->state.notices().contains(id)) {
      reply(error_response(404, "not_found", fmt::format("there is no notice {}", format::quoted(id))));
      return finished();
    }
    outside_.store(
        {NoticeRemoval{job->state.name(), id}}, [this, job, id, reply, finished](const core::Status& stored) {
          if (!stored) ++counters_.store_failures;
          // The speed-up that follows is not held back by a full disk.
          job->state.drop_notice(id);
          log().write(Level::kInfo, "straggler.withdrawn", {{"job", job->state.name()}, {"id", id}});
          reply(stored ? HttpResponse{.status = 204, .content_type = "", .body = nullptr}
                       : error_response(stored.error()));
          finished();
          advance(job);
        });
  });
}

void Service::get_frontier(const JobPtr& job, const Target& target, const Reply& reply) const {
  constexpr std::uint64_t kMostPoints = 1000;
  core::Status fits = check_query(target, {"points", "range"});
  const auto count = number_of(target, "points", 40);
  const std::string_view range = target.find("range").value_or("tstar");
  if (fits && !count) fits = std::unexpected(count.error());
  if (fits && (*count < 1 || *count > kMostPoints)) {
    fits = fail(ErrorCode::kInvalidInput,
                fmt::format("query parameter 'points' is {}; 1 to {}", *count, kMostPoints));
  }
  if (fits && range != "tstar" && range != "tmax") {
    fits = fail(ErrorCode::kInvalidInput, "query parameter 'range' is neither tstar nor tmax");
  }
  if (!fits) return reply(error_response(fits.error()));
  const auto solved = job->state.solved();
  if (!solved) {
    HttpResponse answer =
        error_response(409, "busy", job->solve ? "the frontier is being computed" : "there is no frontier");
    if (job->solve) answer.retry_after_s = 1;
    return reply(std::move(answer));
  }
  const auto points = std::make_shared<core::Result<std::vector<FrontierPoint>>>();
  const auto work = [points, solved, number = static_cast<std::uint32_t>(*count),
                     to_t_max = range == "tmax"] { *points = frontier_points(*solved, number, to_t_max); };
  outside_.run_long(work, [points, solved, reply] {
    if (!*points) return reply(error_response(points->error()));
    JsonText out;
    out.begin_object().key("origin").text("predicted").key("t_min_s").number(solved->t_min.value());
    out.key("t_star_s").number(solved->t_star.value()).key("t_max_s").number(solved->t_max.value());
    out.key("profile_sha256").text(solved->profile_sha256).key("points").begin_array();
    for (const FrontierPoint& p : **points) {
      out.begin_object()
          .key("target_time_s")
          .number(p.target_time.value())
          .key("time_s")
          .number(p.time.value());
      out.key("energy_j")
          .number(p.energy.value())
          .key("lower_bound_j")
          .number(p.lower_bound.value())
          .end_object();
    }
    reply(json_response(out.end_array().end_object().take()));
  });
}

void Service::get_plan_file(const JobPtr& job, const Target& target, const Reply& reply) {
  const core::Status known = check_query(target, {"pipeline"});
  const auto pipeline = number_of(target, "pipeline", 0);
  if (!known || !pipeline) return reply(error_response(known ? pipeline.error() : known.error()));
  const auto& deployment = job->state.deployment();
  if (!deployment || *pipeline >= deployment->plans.size()) {
    return reply(error_response(404, "not_found", "no plan is deployed there"));
  }
  reply(json_response(deployment->plans[*pipeline]->json));
}

void Service::route_rank(const JobPtr& job, HttpRequest& request, Reply& reply) {
  const auto& path = request.target.path;
  const bool post = request.method == "POST";
  if (path.size() == 5) {
    return post ? take_hello(job, request, reply) : reply(method_not_allowed("POST"));
  }
  const auto rank = parse_rank(path[5]);
  if (!rank) return reply(error_response(rank.error()));
  if (path.size() != 7) return reply(not_found());
  const std::string& what = path[6];
  if (what == "plan") {
    if (request.method != "GET") return reply(method_not_allowed("GET"));
    return poll_plan(job, *rank, request.target, reply);
  }
  if (what != "renew" && what != "measurements" && what != "guard" && what != "leave" && what != "windows")
    return reply(not_found());
  if (!post) return reply(method_not_allowed("POST"));
  take_message(job, *rank, request, reply);
}

void Service::take_hello(const JobPtr& job, const HttpRequest& request, const Reply& reply) {
  if (const auto fits = check_type(request, "application/json"); !fits)
    return reply(error_response(fits.error()));
  const auto hello = parse_rank_hello(request.body);
  if (!hello) return reply(error_response(hello.error()));
  const auto applied = job->state.hello(*hello, outside_.now());
  answer_message(*job, applied, reply);
  if (!applied || *applied != Applied::kApplied) return;
  job->reuse_tried = false;
  // The last rank of a job to be profiled begins its sweep.
  if (goal_of(*job) != SweepGoal::kNone || job->sweep_stage != SweepStage::kNone) advance(job);
}

void Service::take_message(const JobPtr& job, const RankId& rank, HttpRequest& request, const Reply& reply) {
  if (const auto fits = check_type(request, "application/json"); !fits)
    return reply(error_response(fits.error()));
  const Moment now = outside_.now();
  const auto apply = [&](const auto& parsed, auto method) -> core::Result<Applied> {
    if (!parsed) return std::unexpected(parsed.error());
    return (job->state.*method)(rank, *parsed, now);
  };
  const std::string& what = request.target.path[6];
  if (what == "windows") return post_window(job, rank, request, reply);
  if (what == "renew") {
    answer_message(*job, apply(parse_renewal(request.body), &JobState::renew), reply);
  } else if (what == "measurements") {
    const auto applied = apply(parse_measurement(request.body), &JobState::measure);
    answer_message(*job, applied, reply);
    if (applied && *applied == Applied::kApplied) watch(job, rank);
  } else if (what == "guard") {
    const auto applied = apply(parse_guard_report(request.body), &JobState::guard);
    if (applied && *applied == Applied::kApplied) {
      guard_tripped(job, rank);
    }
    answer_message(*job, applied, reply);
  } else {
    const auto renewal = parse_renewal(request.body);
    answer_message(*job,
                   renewal ? job->state.leave(rank, renewal->stamp, now) : std::unexpected(renewal.error()),
                   reply);
  }
  advance(job);
}

void Service::answer_message(Job& job, const core::Result<Applied>& applied, const Reply& reply) {
  if (!applied) return reply(error_response(applied.error()));
  if (*applied == Applied::kRepeated) ++counters_.repeated_messages;
  const bool fits = visible(job, job.state.incarnation());
  JsonText out;
  out.begin_object().key("applied").boolean(*applied == Applied::kApplied);
  out.key("revision").number(fits ? job.state.deployment()->revision() : 0);
  out.key("rank_ttl_s").number(settings_.rank_ttl.value()).end_object();
  reply(json_response(out.take()));
}

void Service::poll_plan(const JobPtr& job, const RankId& rank, const Target& target, const Reply& reply) {
  const core::Status known = check_query(target, {"incarnation", "have", "step", "wait_s"});
  const auto incarnation = number_of(target, "incarnation", 0);
  const auto have = number_of(target, "have", 0);
  const auto step = number_of(target, "step", 0);
  const auto wait_s = number_of(target, "wait_s", 0);
  if (!known) return reply(error_response(known.error()));
  for (const auto* number : {&incarnation, &have, &step, &wait_s}) {
    if (!*number) return reply(error_response(number->error()));
  }
  const Moment now = outside_.now();
  const auto polled = job->state.poll(rank, *incarnation, *have / 2, *step, now);
  if (!polled) return reply(error_response(polled.error()));
  if (visible(*job, *incarnation) && job->state.deployment()->revision() != *have) {
    reply(plan_response(*job, rank, *have));
  } else if (*wait_s == 0) {
    reply({.status = 204, .content_type = "", .body = nullptr});
  } else {
    const Seconds wait_time = std::min(Seconds(static_cast<double>(*wait_s)), limits_.longest_poll);
    wait(*job, rank, Waiter{*incarnation, *have, 0, reply}, now + wait_time);
  }
  if (job->state.commit_due(now)) advance(job);
}

}  // namespace perseus::server
