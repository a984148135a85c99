// SPDX-License-Identifier: Apache-2.0
//
// Jobs as they are shown. Every figure says whether it was predicted or measured (DESIGN law 7).
#include <algorithm>
#include <cmath>

#include "perseus/server/json_text.h"
#include "perseus/server/service.h"

namespace perseus::server {
namespace {

/// A condition number beyond this is that of equations which tell nothing apart.
constexpr double kMostShown = 1e300;

std::string_view state_of(const JobState& job, std::size_t live, bool solving) {
  if (job.ended()) return "ended";
  if (!job.ranks().empty() && live == 0) return "silent";
  if (job.sweep()) return "profiling";
  if (job.guard_trip()) return "guarded";
  if (job.deployment() && !job.deployment()->plans.empty()) return "planned";
  if (solving) return "planning";
  return job.planner_error().empty() ? "waiting" : "failed";
}

/// A text, or null where there is none.
void append_text(JsonText& out, std::string_view text) {
  if (text.empty()) {
    out.null();
  } else {
    out.text(text);
  }
}

struct Predicted {
  core::Seconds time;
  core::Joules energy;  ///< of all pipelines
};

std::optional<Predicted> predicted(const JobState& job) {
  if (!job.deployment() || job.deployment()->plans.empty()) return std::nullopt;
  Predicted out;
  for (const auto& plan : job.deployment()->plans) {
    out.time = std::max({out.time, plan->time, job.deployment()->targets->sync});
    out.energy += plan->energy;
  }
  return out;
}

struct Measured {
  double time_s = 0;  ///< mean over ranks
  std::size_t ranks = 0;
  std::optional<double> energy_j;  ///< sum over all ranks; only where every rank measured
};

/// Means over the ranks of `pp`, or of all.
std::optional<Measured> measured(const JobState& job, std::optional<std::uint32_t> pp) {
  Measured out;
  double energy = 0;
  std::size_t with_energy = 0;
  for (const auto& [id, rank] : job.ranks()) {
    if ((pp && id.pp != *pp) || rank.measured.iterations == 0) continue;
    ++out.ranks;
    out.time_s += rank.measured.time_s;
    if (rank.measured.energy_iterations == 0) continue;
    ++with_energy;
    energy += rank.measured.energy_j;
  }
  if (out.ranks == 0) return std::nullopt;
  out.time_s /= static_cast<double>(out.ranks);
  const core::Parallel& degrees = job.registration().parallel;
  const std::size_t all =
      std::size_t{degrees.tensor} * degrees.data * (pp ? 1 : job.registration().schedule.pipeline());
  if (with_energy == all) out.energy_j = energy;
  return out;
}

void append_measured(JsonText& out, const std::optional<Measured>& m) {
  if (!m) {
    out.null();
    return;
  }
  out.begin_object().key("time_s").number(m->time_s).key("energy_j").number(m->energy_j);
  out.key("ranks").number(m->ranks).end_object();
}

void append_notice(JsonText& out, const std::string& id, const ActiveNotice& active, Moment now) {
  const StragglerNotice& n = active.notice;
  out.begin_object().key("id").text(id).key("cause").text(n.cause);
  out.key("detected").boolean(id.starts_with("detected:"));
  if (n.rank) {
    out.key("rank").text(to_text(*n.rank));
  } else {
    out.key("pipeline").number(*n.pipeline);
  }
  if (n.slowdown) out.key("slowdown").number(*n.slowdown);
  if (n.iteration_time) out.key("iteration_time_s").number(n.iteration_time->value());
  out.key("left_s").number(std::max(0.0, (active.until - now).value())).end_object();
}

void append_deployment(JsonText& out, const std::optional<Deployment>& d) {
  out.key("deployment");
  if (!d) {
    out.null();
    return;
  }
  out.begin_object().key("generation").number(d->generation).key("incarnation").number(d->incarnation);
  out.key("reason").text(d->reason).key("baseline").boolean(d->baseline());
  out.key("from_step").number(d->from_step).key("sync_time_s");
  if (d->targets) {
    out.number(d->targets->sync.value());
  } else {
    out.null();
  }
  out.key("plans").begin_array();
  for (const auto& plan : d->plans) {
    out.begin_object()
        .key("sha256")
        .text(plan->sha256)
        .key("target_time_s")
        .number(plan->target_time.value());
    out.key("time_s").number(plan->time.value()).key("energy_j").number(plan->energy.value()).end_object();
  }
  out.end_array().end_object();
}

/// Predicted beside measured, for one pipeline rank over all its GPUs and pipelines.
void append_stage(JsonText& out, const JobState& job, std::uint32_t pp) {
  const auto& deployment = job.deployment();
  out.begin_object().key("predicted");
  if (deployment && !deployment->plans.empty()) {
    core::Joules energy;
    core::Seconds busy;
    for (const auto& plan : deployment->plans) {
      energy += plan->figures[pp].energy;
      busy = std::max(busy, plan->figures[pp].busy);
    }
    out.begin_object().key("busy_s").number(busy.value()).key("energy_j").number(energy.value()).end_object();
  } else {
    out.null();
  }
  out.key("measured");
  append_measured(out, measured(job, pp));
  std::map<Work, RunningTimes> kinds;
  for (const auto& [id, rank] : job.ranks()) {
    if (id.pp != pp) continue;
    for (const auto& [work, times] : rank.kinds) {
      RunningTimes& all = kinds[work];
      all.count += times.count;
      all.measured_s += times.measured_s;
      all.expected_s += times.expected_s;
    }
  }
  out.key("kinds").begin_array();
  for (const auto& [work, times] : kinds) {
    const double count = static_cast<double>(std::max<std::uint64_t>(1, times.count));
    out.begin_object().key("kind").text(core::letter(work.kind)).key("stage").number(work.stage);
    out.key("count").number(times.count).key("measured_time_s").number(times.measured_s / count);
    out.key("predicted_time_s").number(times.expected_s / count).end_object();
  }
  out.end_array().end_object();
}

/// What a measured profile says of itself.
void append_facts(JsonText& out, const std::optional<MeasuredFacts>& facts) {
  out.key("profile_facts");
  if (!facts) {
    out.null();
    return;
  }
  out.begin_object().key("blocking_power").begin_array();
  for (const BlockingPower& b : facts->blocking) {
    out.begin_object().key("power_w").number(b.base.value()).key("clock_mhz").number(b.clock.value());
    out.key("per_mhz_w").number(b.per_mhz_w).key("confidence95_w").number(b.half_width.value()).end_object();
  }
  out.end_array().key("energies").begin_array();
  for (const RankTrust& t : facts->trust) {
    // Not finite: null.
    out.begin_object().key("condition_number").number(t.condition < kMostShown ? t.condition : INFINITY);
    out.key("intervals").number(t.intervals).key("told_apart").boolean(t.told_apart);
    out.key("confidence95_pct").number(100 * t.worst_share);
    out.key("confidence95_of_sums_pct").number(100 * t.worst_sum_share).end_object();
  }
  out.end_array().key("notes").begin_array();
  for (const std::string& note : facts->notes) out.text(note);
  out.end_array().end_object();
}

void append_ranks(JsonText& out, const JobState& job, Moment now) {
  out.key("ranks").begin_array();
  for (const auto& [id, rank] : job.ranks()) {
    out.begin_object().key("rank").text(to_text(id)).key("live").boolean(job.live(rank, now));
    out.key("gpu_uuid").text(rank.gpu_uuid).key("step").number(rank.step);
    out.key("generation")
        .number(rank.confirmed)
        .key("silent_s")
        .number(std::max(0.0, (now - rank.last_seen).value()));
    out.end_object();
  }
  out.end_array();
}

}  // namespace

void Service::append_summary(JsonText& out, const Job& job) const {
  const JobState& state = job.state;
  const Moment now = outside_.now();
  const std::size_t live = state.live_count(now);
  const core::Parallel& degrees = state.registration().parallel;
  out.begin_object().key("job").text(state.name()).key("incarnation").number(state.incarnation());
  out.key("state")
      .text(state_of(state, live, job.solve != nullptr))
      .key("schedule")
      .text(state.registration().schedule.name);
  out.key("schedule_sha256").text(state.fence());
  out.key("parallel").begin_object().key("pipeline").number(state.registration().schedule.pipeline());
  out.key("tensor").number(degrees.tensor).key("data").number(degrees.data).end_object();
  out.key("profile_sha256");
  append_text(out, job.profile_sha256);
  out.key("profile_origin");
  append_text(out, job.profile_origin);
  out.key("dry_run").boolean(state.dry_run()).key("profiling");
  append_profiling(out, job);
  out.key("ranks_live").number(live).key("ranks_known").number(state.ranks().size());
  out.key("generation").number(state.deployment() ? state.deployment()->generation : 0);
  out.key("stragglers").number(state.notices().size()).key("planner");
  append_planner(out, job);
  out.key("planner_error");
  append_text(out, state.planner_error());
  out.key("predicted");
  if (const auto p = predicted(state)) {
    out.begin_object()
        .key("time_s")
        .number(p->time.value())
        .key("energy_j")
        .number(p->energy.value())
        .end_object();
  } else {
    out.null();
  }
  out.key("measured");
  append_measured(out, measured(state, std::nullopt));
  out.key("saved_predicted");
  if (job.savings && predicted(state)) {
    const double share = 1 / job.savings->all_max.value();
    out.begin_object().key("intrinsic_pct").number(100 * (1 - job.savings->fastest.value() * share));
    out.key("extrinsic_pct")
        .number(100 * (job.savings->fastest - job.savings->planned).value() * share)
        .end_object();
  } else {
    out.null();
  }
}

void Service::append_planner(JsonText& out, const Job& job) const {
  if (!job.solve) return out.null(), void();
  out.begin_object().key("running").boolean(job.solve->begun).key("done_pct");
  out.number(100 * job.solve->share_done.load()).key("elapsed_s");
  out.number((outside_.now() - job.solve_since).value()).end_object();
}

void Service::append_profiling(JsonText& out, const Job& job) const {
  const auto& sweep = job.state.sweep();
  const bool wanted = goal_of(job) != SweepGoal::kNone;
  if (!sweep && !wanted && job.sweep_error.empty() && job.drift.empty() && job.sweeps == 0) {
    out.null();
    return;
  }
  const SweepProgress progress = sweep ? sweep->progress() : SweepProgress{};
  out.begin_object().key("running").boolean(sweep.has_value()).key("reason");
  append_text(out, sweep ? job.sweep_why : job.reprofile_why);
  out.key("waits_for");
  const bool waits = wanted && job.sweep_stage == SweepStage::kNone;
  append_text(out, waits ? job.state.sweep_obstacle(outside_.now()) : "");
  out.key("windows_done")
      .number(progress.windows_done)
      .key("windows_planned")
      .number(progress.windows_planned);
  out.key("cost_s").number((job.sweep_cost + progress.cost).value());
  out.key("budget_s").number(job.state.registration().profiling.budget.value());
  out.key("sweeps").number(job.sweeps).key("error");
  append_text(out, job.sweep_error);
  out.key("drift");
  append_text(out, job.drift);
  out.end_object();
}

std::string Service::job_summary(const Job& job) const {
  JsonText out;
  append_summary(out, job);
  return out.end_object().take();
}

std::string Service::job_detail(const Job& job) const {
  const JobState& state = job.state;
  const Moment now = outside_.now();
  JsonText out;
  append_summary(out, job);
  append_deployment(out, state.deployment());
  out.key("frontier");
  if (const auto& solved = state.solved()) {
    out.begin_object()
        .key("t_min_s")
        .number(solved->t_min.value())
        .key("t_star_s")
        .number(solved->t_star.value());
    out.key("t_max_s")
        .number(solved->t_max.value())
        .key("all_max_energy_j")
        .number(solved->all_max_energy.value());
    out.key("breakpoints").number(solved->frontier.breakpoint_count()).key("fit").text(solved->fit);
    out.key("solver_s").number(solved->solver_seconds.value()).end_object();
  } else {
    out.null();
  }
  out.key("guard");
  if (const auto& trip = state.guard_trip()) {
    out.begin_object()
        .key("rank")
        .text(to_text(trip->rank))
        .key("generation")
        .number(trip->report.generation);
    out.key("promised_time_s").number(trip->report.promised.value());
    out.key("measured_time_s").number(trip->report.measured.value());
    out.key("iterations").number(trip->report.iterations).end_object();
  } else {
    out.null();
  }
  out.key("notices").begin_array();
  for (const auto& [id, active] : state.notices()) append_notice(out, id, active, now);
  out.end_array();
  append_facts(out, job.facts);
  out.key("stages").begin_array();
  for (std::uint32_t pp = 0; pp < state.registration().schedule.pipeline(); ++pp)
    append_stage(out, state, pp);
  out.end_array().key("measured_by_pipeline_rank").begin_array();
  for (std::uint32_t pp = 0; pp < state.registration().schedule.pipeline(); ++pp) {
    append_measured(out, measured(state, pp));
  }
  out.end_array();
  append_ranks(out, state, now);
  return out.end_object().take();
}

std::string Service::notices_json(const Job& job) const {
  JsonText out;
  out.begin_object().key("stragglers").begin_array();
  for (const auto& [id, active] : job.state.notices()) append_notice(out, id, active, outside_.now());
  return out.end_array().end_object().take();
}

void Service::list_jobs(const Principal& principal, const Reply& reply) {
  JsonText out;
  out.begin_object().key("jobs").begin_array();
  for (const auto& [name, job] : jobs_) {
    if (!principal.may_read(name)) continue;
    append_summary(out, *job);
    out.end_object();
  }
  reply(json_response(out.end_array().end_object().take()));
}

}  // namespace perseus::server
