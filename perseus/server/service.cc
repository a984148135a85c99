// SPDX-License-Identifier: Apache-2.0
//
// The order of things: durable changes one after another for each job, plans made elsewhere, published when
// stored.
#include "perseus/server/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "perseus/server/json_text.h"
#include "perseus/server/sweep_log.h"
#include "perseus/server/zeus_routes.h"

namespace perseus::server {

using core::Seconds;

namespace {

/// How soon a planner or store that failed is asked again.
constexpr Seconds kRetry{5};
/// Between two looks for jobs that have fallen silent.
constexpr Seconds kSweep{10};
/// How often jobs are looked at for having fallen silent, at most. Assumed: logs need no finer time.
constexpr Seconds kRollCall{1};

/// Makes one plan for each distinct target. The one for T_min is there already.
core::Result<std::vector<std::shared_ptr<const PlanBody>>> make_plans(const Solved& solved,
                                                                      const Targets& targets) {
  std::vector<std::shared_ptr<const PlanBody>> plans;
  std::map<Seconds, std::shared_ptr<const PlanBody>> made{{solved.t_min, solved.fastest}};
  for (const Seconds time : targets.pipeline) {
    auto& plan = made[time];
    if (!plan) {
      PERSEUS_ASSIGN_OR_RETURN(PlanBody body, make_plan(solved, {time, targets.sync}));
      plan = std::make_shared<const PlanBody>(std::move(body));
    }
    plans.push_back(plan);
  }
  return plans;
}

/// What the GPUs of one pipeline rank run in the windows of a sweep.
void append_rank_windows(JsonText& out, const Deployment& deployment, std::uint32_t pp) {
  out.key("windows").begin_array();
  for (const SweepWindow& window : deployment.windows) {
    out.begin_object().key("steps").number(window.steps).key("skip").number(window.skip);
    out.key("clocks").begin_array();
    for (const WorkClock& c : window.ranks.at(pp)) {
      out.begin_object().key("kind").text(core::letter(c.work.kind)).key("stage").number(c.work.stage);
      out.key("clock_mhz").number(c.clock.value()).end_object();
    }
    out.end_array().end_object();
  }
  out.end_array();
}

/// Of the pipeline that is slowed most.
std::optional<Savings> savings_of(const Solved& solved, const Deployment& deployment) {
  const auto& times = deployment.targets->pipeline;
  const auto slowest = static_cast<std::size_t>(std::ranges::max_element(times) - times.begin());
  return savings_of(solved, *deployment.plans[slowest], std::max(solved.t_min, deployment.targets->sync));
}

}  // namespace

Service::Service(Outside outside, const JobSettings& settings, const Limits& limits)
    : outside_(std::move(outside)),
      settings_(settings),
      limits_(limits),
      zeus_(std::make_unique<ZeusRoutes>(*this)) {}

Service::~Service() = default;

const JobState* Service::find_job(const std::string& name) const {
  const auto job = jobs_.find(name);
  return job == jobs_.end() ? nullptr : &job->second->state;
}

bool Service::has_profile(const std::string& name) const {
  const auto job = jobs_.find(name);
  return job != jobs_.end() && !job->second->profile_csv.empty();
}

void Service::enqueue(const std::string& job, Mutation mutation) {
  auto& queue = mutations_[job];
  queue.push_back(std::move(mutation));
  if (queue.size() == 1) run_next(job);
}

void Service::run_next(const std::string& job) {
  const Mutation mutation = mutations_.at(job).front();
  mutation([this, job] {
    auto& queue = mutations_.at(job);
    queue.pop_front();
    if (queue.empty()) {
      mutations_.erase(job);
    } else {
      run_next(job);
    }
  });
}

void Service::start_solving(const JobPtr& job) {
  const bool measured = job->state.registration().blocking_power.empty();
  // Without a blocking power nothing can be planned; a sweep measures it.
  if (job->profile_csv.empty() || (measured && !job->facts)) return;
  struct Answer {
    core::Result<Solved> solved = core::fail(core::ErrorCode::kInternal, "the planner did not run");
  };
  const auto answer = std::make_shared<Answer>();
  if (job->solve) job->solve->stop.request_stop();  // of an older profile or order; nobody wants it any more
  const auto control = std::make_shared<SolveControl>();
  job->solve = control;
  job->solve_since = outside_.now();
  const auto work = [answer, control, registration = job->state.registration(), csv = job->profile_csv,
                     blocking = measured ? job->facts->blocking : std::vector<BlockingPower>()] {
    answer->solved =
        blocking.empty() ? solve(registration, csv, *control) : solve(registration, csv, blocking, *control);
  };
  outside_.run_long(work, [this, job, answer, control] {
    if (control != job->solve) return;  // a newer profile or incarnation is being solved
    job->solve.reset();
    const std::string& name = job->state.name();
    if (job->sweep_stage == SweepStage::kPlanning) drop_sweep(*job);
    if (!answer->solved && control->stop.stop_requested())
      return;  // the server stops; the next one solves anew
    if (!answer->solved) {
      ++counters_.planner_failures;
      job->state.set_planner_error(answer->solved.error().text());
      zeus_->job_changed(name);
      log().write(Level::kError, "planner.failed",
                  {{"job", name}, {"reason", answer->solved.error().text()}});
    } else {
      const auto solved = std::make_shared<const Solved>(*std::move(answer->solved));
      log().write(Level::kInfo, "planner.solved",
                  {{"job", name},
                   {"t_min_s", format::number_text(solved->t_min.value())},
                   {"solver_s", format::number_text(solved->solver_seconds.value())}});
      job->state.set_solved(solved);
      const auto& deployed = job->state.deployment();
      if (deployed && !deployed->plans.empty() && deployed->profile_sha256 == solved->profile_sha256) {
        job->savings = savings_of(*solved, *deployed);
      }
    }
    advance(job);
  });
}

void Service::advance(const JobPtr& job) {
  const Moment now = outside_.now();
  for (const std::string& id : job->state.expire_notices(now)) {
    log().write(Level::kInfo, "straggler.expired", {{"job", job->state.name()}, {"id", id}});
    outside_.store({NoticeRemoval{job->state.name(), id}}, [](const core::Status&) {});
  }
  const bool may_try = !job->retry_at || now >= *job->retry_at;
  if (may_try) profile(job);
  if (!job->deploying && may_try) {
    if (const auto wish = job->state.wish(now)) deploy(job, *wish);
  }
  if (!job->deploying && !job->committing && may_try) {
    if (const auto step = job->state.commit_due(now)) commit(job, *step);
  }
  set_alarm(*job);
}

void Service::deploy(const JobPtr& job, const Wish& wish) {
  job->deploying = true;
  JobState& state = job->state;
  Deployment next{.generation = state.next_generation(),
                  .incarnation = state.incarnation(),
                  .schedule_sha256 = state.fence(),
                  .reason = wish.reason,
                  .profile_sha256 = state.solved() ? state.solved()->profile_sha256 : "",
                  .targets = wish.targets,
                  .windows = wish.windows};
  if (!wish.targets) return store_deployment(job, wish, std::move(next), std::nullopt);

  struct Answer {
    core::Result<std::vector<std::shared_ptr<const PlanBody>>> plans =
        core::fail(core::ErrorCode::kInternal, "the planner did not run");
  };
  const auto answer = std::make_shared<Answer>();
  const auto solved = state.solved();
  const auto work = [answer, solved, targets = *wish.targets] {
    answer->plans = make_plans(*solved, targets);
  };
  outside_.run(work, [this, job, answer, solved, wish, next = std::move(next)]() mutable {
    const JobState& now = job->state;
    const bool outdated = now.solved() != solved || now.incarnation() != next.incarnation || now.ended();
    if (outdated || !answer->plans) {
      job->deploying = false;
      if (!outdated) retry_later(*job, "planner.failed", answer->plans.error());
      return advance(job);
    }
    next.plans = *std::move(answer->plans);
    const auto savings = savings_of(*solved, next);
    store_deployment(job, wish, std::move(next), savings);
  });
}

void Service::store_deployment(const JobPtr& job, const Wish& wish, Deployment deployment,
                               std::optional<Savings> savings) {
  if (wish.urgent) deployment.from_step = job->state.next_step();
  auto records = records_of(job->state.name(), deployment);
  if (!deployment.windows.empty()) {
    records.emplace_back(batch_record(job->state.name(), deployment.generation, deployment.windows));
  }
  outside_.store(std::move(records), [this, job, wish, savings, deployment = std::move(deployment)](
                                         const core::Status& stored) mutable {
    job->deploying = false;
    const bool outdated = job->state.incarnation() != deployment.incarnation;
    // What makes ranks faster is not held back by a full disk; a slow-down is (DESIGN law 4).
    if (!stored && !wish.urgent) retry_later(*job, "store.failed", stored.error());
    if (!stored && wish.urgent) {
      ++counters_.store_failures;
      log().write(Level::kError, "store.failed",
                  {{"job", job->state.name()}, {"reason", stored.error().text()}});
    }
    if (outdated) job->state.skip_to_generation(deployment.generation);
    if (!outdated && (stored || wish.urgent)) {
      log().write(
          Level::kInfo, "plan.deployed",
          {{"job", job->state.name()},
           {"generation", std::to_string(deployment.generation)},
           {"reason", deployment.reason},
           {"sync_s", deployment.targets ? format::number_text(deployment.targets->sync.value()) : ""}});
      const bool first = !job->state.deployment() || job->state.deployment()->plans.empty();
      job->state.deploy(std::move(deployment), !first, outside_.now());
      job->savings = savings;
      job->plan_texts.clear();
      publish(*job);
      zeus_->job_changed(job->state.name());
    }
    advance(job);
  });
}

void Service::commit(const JobPtr& job, std::uint64_t from_step) {
  job->committing = true;
  Deployment agreed = *job->state.deployment();
  agreed.from_step = from_step;
  const std::uint64_t generation = agreed.generation;
  outside_.store(
      records_of(job->state.name(), agreed), [this, job, generation, from_step](const core::Status& stored) {
        job->committing = false;
        if (!stored) {
          retry_later(*job, "store.failed", stored.error());
        } else if (job->state.deployment()->generation == generation && !job->state.deployment()->from_step) {
          job->state.commit(from_step);
          job->plan_texts.clear();
          publish(*job);
        }
        advance(job);
      });
}

void Service::retry_later(Job& job, std::string_view what, const core::Error& error) {
  ++(what.starts_with("store") ? counters_.store_failures : counters_.planner_failures);
  job.retry_at = outside_.now() + kRetry;
  if (what.starts_with("planner")) job.state.set_planner_error(error.text());
  log().write(Level::kError, what, {{"job", job.state.name()}, {"reason", error.text()}});
}

void Service::set_alarm(Job& job) {
  const Moment now = outside_.now();
  auto next = job.state.next_look(now);
  if (job.retry_at && *job.retry_at > now && (!next || *job.retry_at < *next)) next = job.retry_at;
  const bool sweep_waits = job.sweep_stage == SweepStage::kNone && goal_of(job) != SweepGoal::kNone;
  if (sweep_waits && job.next_sweep_at && *job.next_sweep_at > now && (!next || *job.next_sweep_at < *next)) {
    next = job.next_sweep_at;
  }
  if (!next || (job.alarm && *job.alarm > now && *job.alarm <= *next)) return;
  job.alarm = next;
  alarms_.emplace(*next, Alarm{job.state.name(), std::nullopt, 0});
  outside_.wake(alarms_.begin()->first);
}

/// Looks at every rank, so not at every tick: those of ten thousand polls come hundreds of times a second.
void Service::call_roll(Moment now) {
  next_roll_call_ = now + kRollCall;
  for (const auto& [name, job] : jobs_) {
    const bool live = job->state.live_count(now) != 0;
    if (live != job->was_live) log().write(Level::kInfo, live ? "job.live" : "job.silent", {{"job", name}});
    job->was_live = live;
  }
}

void Service::tick() {
  const Moment now = outside_.now();
  while (!alarms_.empty() && alarms_.begin()->first <= now) {
    const Alarm alarm = std::move(alarms_.begin()->second);
    alarms_.erase(alarms_.begin());
    const auto found = jobs_.find(alarm.job);
    if (found == jobs_.end()) continue;
    const JobPtr job = found->second;
    if (!alarm.rank) {
      job->alarm.reset();
      advance(job);
      continue;
    }
    const auto waiter = job->waiters.find(*alarm.rank);
    if (waiter == job->waiters.end() || waiter->second.ticket != alarm.ticket) continue;
    const Reply reply = std::move(waiter->second.reply);
    job->waiters.erase(waiter);
    reply({.status = 204, .content_type = "", .body = nullptr});
  }
  if (now >= next_roll_call_) call_roll(now);
  zeus_->sweep();
  outside_.wake(alarms_.empty() ? now + kSweep : std::min(alarms_.begin()->first, now + kSweep));
}

void Service::wind_up() {
  for (const auto& [name, job] : jobs_) {
    if (job->solve) job->solve->stop.request_stop();
    auto waiters = std::exchange(job->waiters, {});
    for (auto& [rank, waiter] : waiters) waiter.reply({.status = 204, .content_type = "", .body = nullptr});
  }
  zeus_->release_waiters();
}

bool Service::visible(const Job& job, std::uint64_t incarnation) {
  return job.state.deployment() && job.state.deployment()->incarnation == incarnation;
}

/// The part of the answer that all GPUs of one pipeline rank share.
std::shared_ptr<const std::string> Service::plan_text(Job& job, const RankId& rank,
                                                      bool with_operations) const {
  const Deployment& d = *job.state.deployment();
  // Ranks that have the operations share one answer; the key (data degree, 0) is that of no pipeline.
  const std::uint32_t none = job.state.registration().parallel.data;
  const auto key = with_operations ? std::pair(rank.dp, rank.pp) : std::pair(none, 0U);
  auto& text = job.plan_texts[key];
  if (text) return text;
  JsonText out;
  out.begin_object().key("job").text(job.state.name()).key("incarnation").number(d.incarnation);
  out.key("schedule_sha256").text(d.schedule_sha256).key("revision").number(d.revision());
  out.key("generation")
      .number(d.generation)
      .key("reason")
      .text(d.reason)
      .key("from_step")
      .number(d.from_step);
  out.key("ttl_s").number(settings_.plan_ttl.value());
  out.key("baseline").boolean(d.baseline());
  if (with_operations && !d.windows.empty()) append_rank_windows(out, d, rank.pp);
  if (with_operations && !d.plans.empty()) {
    const PlanBody& plan = *d.plans.at(rank.dp);
    // Nobody's iteration ends before the slowest pipeline's: that is what the guard may hold ranks to.
    out.key("promised_time_s").number(std::max(plan.time, d.targets->sync).value());
    out.key("plan_sha256").text(plan.sha256);
    out.key("operations").raw(plan.operations.at(rank.pp));
  }
  text = std::make_shared<const std::string>(out.end_object().take());
  return text;
}

HttpResponse Service::plan_response(Job& job, const RankId& rank, std::uint64_t have) {
  const Deployment& d = *job.state.deployment();
  // A rank that has this generation prepared only needs to hear the agreed step.
  const bool has_operations = have / 2 == d.generation && d.from_step.has_value();
  return {200, "application/json", plan_text(job, rank, !has_operations), std::nullopt};
}

void Service::publish(Job& job) {
  const std::uint64_t revision = job.state.deployment()->revision();
  std::vector<std::pair<Reply, HttpResponse>> answers;
  for (auto waiter = job.waiters.begin(); waiter != job.waiters.end();) {
    const Waiter& w = waiter->second;
    if (visible(job, w.incarnation) && w.have != revision) {
      answers.emplace_back(w.reply, plan_response(job, waiter->first, w.have));
      waiter = job.waiters.erase(waiter);
    } else {
      ++waiter;
    }
  }
  for (auto& [reply, answer] : answers) reply(std::move(answer));
}

void Service::wait(Job& job, const RankId& rank, Waiter waiter, Moment until) {
  waiter.ticket = next_ticket_++;
  const auto earlier = job.waiters.find(rank);
  if (earlier != job.waiters.end()) {
    // The rank asks again: whoever asked before has given up.
    ++counters_.polls_superseded;
    const Reply reply = std::move(earlier->second.reply);
    job.waiters.erase(earlier);
    reply({.status = 204, .content_type = "", .body = nullptr});
  }
  const bool first = alarms_.empty() || until < alarms_.begin()->first;
  alarms_.emplace(until, Alarm{job.state.name(), rank, waiter.ticket});
  job.waiters.emplace(rank, std::move(waiter));
  if (first) outside_.wake(until);
}

Service::JobPtr Service::restore_job(const JobRecord& record, std::vector<std::string>& findings_out) {
  auto registration = parse_registration(record.registration, limits_);
  core::Result<std::string> fence =
      registration ? fence_of(*registration) : std::unexpected(registration.error());
  if (!fence || !check_name(record.name, "job")) {
    findings_out.push_back(fmt::format("stored job {} was left out: {}", record.name,
                                       fence ? "it has no valid name" : fence.error().text()));
    return nullptr;
  }
  auto job = std::make_shared<Job>(
      Job{.state = JobState(record.name, *std::move(registration), *std::move(fence), settings_),
          .registration_body = record.registration});
  if (record.ended) job->state.end();
  return job;
}

void Service::restore_deployments(const Snapshot& snapshot, std::vector<std::string>& findings_out) {
  std::map<std::string, std::string_view> plans;
  for (const PlanRecord& plan : snapshot.plans) plans.emplace(plan.sha256, plan.json);
  for (const GenerationRecord& record : snapshot.generations) {
    const auto found = jobs_.find(record.job);
    if (found == jobs_.end()) continue;
    JobState& state = found->second->state;
    state.skip_to_generation(record.generation);
    auto stored = parse_deployment(record.deployment);
    std::string trouble = stored ? "" : stored.error().text();
    for (std::size_t i = 0; trouble.empty() && i < stored->plans.size(); ++i) {
      const auto plan = plans.find(stored->plans[i]);
      auto body = plan == plans.end() ? core::fail(core::ErrorCode::kNotFound, "its plan is not there")
                                      : read_plan(std::string(plan->second));
      if (body) {
        stored->deployment.plans.push_back(std::make_shared<const PlanBody>(*std::move(body)));
      } else {
        trouble = body.error().text();
      }
    }
    if (trouble.empty()) {
      state.deploy(std::move(stored->deployment), false, outside_.now());
    } else {
      findings_out.push_back(fmt::format("what job {} had deployed was left out: {}", record.job, trouble));
    }
  }
}

std::vector<std::string> Service::restore(const Snapshot& snapshot) {
  std::vector<std::string> out;
  for (const JobRecord& record : snapshot.jobs) {
    if (auto job = restore_job(record, out)) jobs_.emplace(record.name, std::move(job));
  }
  for (const ProfileRecord& record : snapshot.profiles) {
    const auto job = jobs_.find(record.job);
    if (job == jobs_.end()) continue;
    job->second->profile_csv = record.csv;
    job->second->profile_sha256 = record.sha256;
    job->second->profile_origin = "uploaded";
  }
  for (const NoticeRecord& record : snapshot.notices) {
    const auto job = jobs_.find(record.job);
    if (job == jobs_.end()) continue;
    auto notice = parse_straggler_notice(record.notice, record.job);
    if (!notice || !job->second->state.check_notice(*notice)) {
      out.push_back(fmt::format("stored notice {} of job {} was left out", record.id, record.job));
      continue;
    }
    // This machine's own wall clock, then and now; a clock that was set back may not prolong a notice.
    const Seconds left(static_cast<double>(record.until_unix_ms - outside_.wall_ms()) / 1000);
    const Seconds most = notice->ttl.value_or(settings_.notice_ttl_most);
    job->second->state.put_notice(record.id, *std::move(notice), outside_.now() + std::min(left, most));
  }
  restore_deployments(snapshot, out);
  restore_sweeps(snapshot, out);
  for (const auto& [name, job] : jobs_) {
    start_solving(job);
    advance(job);
  }
  outside_.wake(outside_.now() + kSweep);
  return out;
}

}  // namespace perseus::server
