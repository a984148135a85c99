// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/planning.h"

#include <algorithm>
#include <chrono>

#include "perseus/certify/verify.h"
#include "perseus/core/pipeline.h"
#include "perseus/format/plan_json.h"
#include "perseus/format/profile_csv.h"
#include "perseus/format/sha256.h"
#include "perseus/server/json_text.h"
#include "perseus/solver/fit.h"
#include "perseus/solver/realise.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;
using core::Seconds;

std::string operations_of(const std::vector<format::PlannedComputation>& rank) {
  JsonText out;
  out.begin_array();
  for (const format::PlannedComputation& c : rank) {
    out.begin_array();
    out.text(c.kind == core::Kind::kOther ? std::string_view(c.instruction) : core::letter(c.kind));
    out.number(c.stage).number(c.microbatch);
    if (c.clock) {
      out.number(c.clock->value());
    } else {
      out.null();
    }
    out.number(c.time.value());
    if (c.kind == core::Kind::kForwardBackward) out.number(c.stage_b).number(c.microbatch_b);
    if (!c.knobs.empty()) {
      out.begin_object();
      for (const auto& [name, value] : c.knobs) out.key(name).text(value);
      out.end_object();
    }
    out.end_array();
  }
  out.end_array();
  return out.take();
}

std::vector<std::pair<std::string, std::uint32_t>> zeus_row(
    const std::vector<format::PlannedComputation>& rank) {
  std::vector<std::pair<std::string, std::uint32_t>> row;
  row.reserve(rank.size());
  for (const format::PlannedComputation& c : rank) {
    row.emplace_back(
        c.kind == core::Kind::kOther ? c.instruction : std::string(core::instruction_name(c.kind)),
        c.clock ? c.clock->value() : 0);
  }
  return row;
}

core::Result<PlanBody> body_of(const format::ParsedPlan& plan, std::string json) {
  PlanBody out{.target_time = plan.target_time,
               .sync_time = plan.sync_time,
               .time = plan.time,
               .energy = plan.energy,
               .schedule_sha256 = plan.schedule_sha256};
  PERSEUS_ASSIGN_OR_RETURN(out.sha256, format::sha256_hex(json));
  out.json = std::move(json);
  const Seconds end = plan.sync_time.value_or(plan.time);
  for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
    out.operations.push_back(operations_of(plan.ranks[r]));
    out.zeus_rows.push_back(zeus_row(plan.ranks[r]));
    auto& figures = out.figures.emplace_back();
    for (const format::PlannedComputation& c : plan.ranks[r]) {
      figures.busy += c.time;
      figures.energy += c.energy;
    }
    figures.energy += plan.blocking_power.at(r) * (end - figures.busy);
    figures.energy = plan.tensor * figures.energy;
  }
  return out;
}

core::Result<core::Plan> plan_at(const Solved& solved, const PlanTarget& target) {
  PERSEUS_ASSIGN_OR_RETURN(const auto relaxed, solved.frontier.at(target.time));
  PERSEUS_ASSIGN_OR_RETURN(
      auto plan, solver::realise(solved.frontier.problem(), relaxed, {.sync_time = target.sync_time}));
  plan.fit = solved.fit;
  return plan;
}

}  // namespace

core::Result<std::string> fence_of(const Registration& registration) {
  return format::sha256_hex(
      core::canonical_text(registration.schedule, registration.parallel.tensor, registration.parallel.data));
}

namespace {

/// The share of all the work that one frontier is.
struct Part {
  double from = 0, to = 1;
};

solver::Progress progress_into(SolveControl& control, Part part) {
  return [&control, part](double share, std::string_view) {
    control.share_done = part.from + (part.to - part.from) * share;
  };
}

core::Result<Solved> solve_part(const Registration& registration, std::string_view profile_csv,
                                SolveControl& control, Part part) {
  PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_profile_csv(profile_csv, "profile"));
  PERSEUS_RETURN_IF_ERROR(format::check_stages(parsed.profile, registration.schedule.stages(), {"profile"}));
  PERSEUS_ASSIGN_OR_RETURN(auto pipeline, core::Pipeline::build(registration.schedule));
  std::string fit = registration.fit.value_or(solver::default_fit(parsed.profile));
  PERSEUS_ASSIGN_OR_RETURN(
      auto problem, core::Problem::build(std::move(pipeline), {.profile = std::move(parsed.profile),
                                                               .blocking_power = registration.blocking_power,
                                                               .parallel = registration.parallel,
                                                               .p2p_lag = registration.p2p_lag,
                                                               .edge_lag = {}}));
  if (fit == "convex") {
    PERSEUS_ASSIGN_OR_RETURN(auto fitted, solver::fit_convex(problem));
    problem = std::move(fitted.problem);
  }
  const auto begun = std::chrono::steady_clock::now();
  const solver::SolveOptions options{.range = solver::Range::kTMax,
                                     .progress = progress_into(control, part),
                                     .stop = control.stop.get_token()};
  PERSEUS_ASSIGN_OR_RETURN(auto frontier, solver::Frontier::solve(problem, options));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  PERSEUS_ASSIGN_OR_RETURN(std::string digest, format::sha256_hex(profile_csv));
  const Seconds t_min = frontier.t_min();
  const core::Joules all_max = core::pipeline_energy(problem, core::fastest_choice(problem), t_min);
  const Seconds t_star = std::max(t_min, frontier.t_star());
  const Seconds t_max = std::max(t_min, frontier.t_max());
  const core::Watts waiting = problem.parallel().tensor * problem.total_blocking_power();
  Solved out{std::move(frontier),
             std::move(fit),
             std::move(digest),
             t_min,
             t_star,
             t_max,
             all_max,
             nullptr,
             waiting,
             Seconds(took.count())};
  PERSEUS_ASSIGN_OR_RETURN(PlanBody fastest, make_plan(out, {t_min, std::nullopt}));
  out.fastest = std::make_shared<const PlanBody>(std::move(fastest));
  control.share_done = part.to;
  return out;
}

/// Per pipeline rank the clock at which its GPUs wait in the plan for T_min, weighted by how long: a GPU
/// keeps the clock of what it ran last, and waits for its first computation at the one of its last.
core::Result<std::vector<double>> waiting_clocks(const Solved& solved) {
  const core::Problem& problem = solved.frontier.problem();
  const core::Pipeline& pipeline = problem.pipeline();
  PERSEUS_ASSIGN_OR_RETURN(const core::Plan plan, plan_at(solved, {solved.t_min, std::nullopt}));
  const core::ExactTiming timing = core::exact_timing(problem, plan.choice);
  const auto option_of = [&](core::ComputationId i) -> const core::Option& {
    return problem.options(i)[plan.choice[i]];
  };
  struct Waiting {
    double clock = 0;  ///< that was set last
    double free_at = 0;
    double waited = 0;
    double weighted = 0;
    void until(double time) {
      const double gap = std::max(0.0, time - free_at);
      waited += gap;
      weighted += gap * clock;
    }
  };
  std::vector<Waiting> ranks(problem.pipeline().schedule().pipeline());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (const auto clock = option_of(i).clock) ranks[pipeline.rank_of(i)].clock = clock->value();
  }
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    Waiting& rank = ranks[pipeline.rank_of(i)];
    const double start = timing.start[i].nearest_seconds().value();
    rank.until(start);
    rank.free_at = start + option_of(i).time.value();
    if (const auto clock = option_of(i).clock) rank.clock = clock->value();
  }
  std::vector<double> out;
  for (Waiting& rank : ranks) {
    rank.until(plan.time.value());
    out.push_back(rank.waited > 0 ? rank.weighted / rank.waited : rank.clock);
  }
  return out;
}

}  // namespace

core::Result<Solved> solve(const Registration& registration, std::string_view profile_csv,
                           SolveControl& control) {
  control.begun = true;
  return solve_part(registration, profile_csv, control, {});
}

core::Result<Solved> solve(const Registration& registration, std::string_view profile_csv,
                           const std::vector<BlockingPower>& blocking, SolveControl& control) {
  control.begun = true;
  Registration with = registration;
  with.blocking_power.clear();
  PERSEUS_ASSIGN_OR_RETURN(const auto parsed, format::parse_profile_csv(profile_csv, "profile"));
  std::uint32_t top = 0;
  for (const auto& entry : parsed.profile.entries) {
    for (const auto& option : entry.options) top = std::max(top, option.clock ? option.clock->value() : 0);
  }
  for (const BlockingPower& power : blocking) with.blocking_power.push_back(power.at(top));
  PERSEUS_ASSIGN_OR_RETURN(const Solved first, solve_part(with, profile_csv, control, {.to = 0.5}));
  PERSEUS_ASSIGN_OR_RETURN(const std::vector<double> clocks, waiting_clocks(first));
  for (std::size_t r = 0; r < blocking.size(); ++r) with.blocking_power[r] = blocking[r].at(clocks[r]);
  return solve_part(with, profile_csv, control, {.from = 0.5});
}

core::Result<PlanBody> make_plan(const Solved& solved, const PlanTarget& target) {
  const core::Problem& problem = solved.frontier.problem();
  PERSEUS_ASSIGN_OR_RETURN(const core::Plan plan, plan_at(solved, target));
  PERSEUS_ASSIGN_OR_RETURN(const certify::Verdict verdict, certify::verify(problem, plan));
  if (const core::Status sound = verdict.status(); !sound) {
    return fail(ErrorCode::kInternal,
                "a plan failed its check and was thrown away: " + sound.error().message());
  }
  PERSEUS_ASSIGN_OR_RETURN(const format::ParsedPlan described, format::describe_plan(problem, plan));
  return body_of(described, format::write_plan_json(described));
}

core::Result<PlanBody> read_plan(std::string json) {
  PERSEUS_ASSIGN_OR_RETURN(const format::ParsedPlan plan, format::parse_plan_json(json, "stored plan"));
  return body_of(plan, std::move(json));
}

Seconds time_with_slow_rank(const Solved& solved, std::uint32_t pp, double slowdown) {
  const core::Problem& problem = solved.frontier.problem();
  const core::Pipeline& pipeline = problem.pipeline();
  const core::Choice fastest = core::fastest_choice(problem);
  std::vector<double> start(problem.size(), 0);
  double end = 0;
  for (const core::ComputationId i : pipeline.topological_order()) {
    const double stretch = pipeline.rank_of(i) == pp ? slowdown : 1;
    const double done = start[i] + stretch * problem.options(i)[fastest[i]].time.value();
    end = std::max(end, done);
    for (core::EdgeId e = pipeline.first_out(i); e < pipeline.first_out(i + 1); ++e) {
      double& next = start[pipeline.edges()[e].to];
      next = std::max(next, done + problem.lag(e).value());
    }
  }
  return std::max(solved.t_min, Seconds(end));
}

Savings savings_of(const Solved& solved, const PlanBody& plan, Seconds sync) {
  const core::Joules waiting = solved.waiting_power * (sync - solved.t_min);
  const Seconds counted = plan.sync_time.value_or(plan.time);
  return {solved.all_max_energy + waiting,
          solved.fastest->energy + solved.waiting_power * (sync - solved.fastest->time),
          plan.energy + solved.waiting_power * (sync - counted)};
}

core::Result<std::vector<FrontierPoint>> frontier_points(const Solved& solved, std::uint32_t count,
                                                         bool to_t_max) {
  const Seconds fast = solved.t_min;
  const Seconds slow = to_t_max ? solved.t_max : solved.t_star;
  std::vector<FrontierPoint> points;
  for (std::uint32_t k = 0; k < count; ++k) {
    const double share = count == 1 ? 0 : static_cast<double>(k) / (count - 1);
    const Seconds time = k + 1 == count && count > 1 ? slow : std::max(fast, fast + share * (slow - fast));
    if (!points.empty() && time == points.back().target_time) continue;
    PERSEUS_ASSIGN_OR_RETURN(const core::Plan plan,
                             plan_at(solved, {time, to_t_max ? std::optional(time) : std::nullopt}));
    points.push_back({plan.target_time, plan.time, plan.energy, plan.lower_bound});
  }
  return points;
}

}  // namespace perseus::server
