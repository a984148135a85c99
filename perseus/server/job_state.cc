// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/job_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "perseus/format/text.h"

namespace perseus::server {

using core::ErrorCode;
using core::fail;
using core::Seconds;

void RunningMean::add(const Measurement& m) {
  const auto blend = [](double mean, std::uint64_t seen, double value, std::uint64_t more) {
    return mean + (value - mean) * static_cast<double>(more) / static_cast<double>(seen + more);
  };
  time_s = blend(time_s, iterations, m.iteration_time.value(), m.iterations);
  iterations += m.iterations;
  if (!m.energy) return;
  energy_j = blend(energy_j, energy_iterations, m.energy->value(), m.iterations);
  energy_iterations += m.iterations;
}

JobState::JobState(std::string name, Registration registration, std::string fence,
                   const JobSettings& settings)
    : name_(std::move(name)),
      registration_(std::move(registration)),
      fence_(std::move(fence)),
      settings_(settings),
      policy_(settings) {}

namespace {

/// Whether a frontier for `a` is one for `b`: all but the incarnation is alike. `fences_equal` stands for the
/// orders and degrees.
bool same_problem(const Registration& a, const Registration& b, bool fences_equal) {
  return fences_equal && a.blocking_power == b.blocking_power && a.p2p_lag == b.p2p_lag && a.fit == b.fit &&
         a.fingerprint == b.fingerprint;
}

}  // namespace

core::Result<bool> JobState::is_next(const Registration& registration, const std::string& fence) const {
  if (registration.incarnation > incarnation()) return true;
  if (registration.incarnation < incarnation()) {
    return fail(ErrorCode::kBusy, fmt::format("incarnation {} of job {} is over; it is in incarnation {}",
                                              registration.incarnation, name_, incarnation()));
  }
  if (same_problem(registration, registration_, fence == fence_) &&
      registration.profiling == registration_.profiling) {
    return false;
  }
  return fail(ErrorCode::kBusy,
              fmt::format("job {} is registered in incarnation {} with other content; a changed job "
                          "needs a higher incarnation",
                          name_, incarnation()));
}

bool JobState::begin_incarnation(Registration registration, std::string fence) {
  const bool anew = !same_problem(registration, registration_, fence == fence_);
  registration_ = std::move(registration);
  fence_ = std::move(fence);
  ranks_.clear();
  rank_of_gpu_.clear();
  unconfirmed_.clear();
  newest_step_ = 0;
  guard_.reset();
  ended_ = false;
  // What was measured holds for the same computations on the same clocks; the windows under way do not.
  if (sweep_ && sweep_->running()) sweep_->abandon();
  if (anew) sweep_.reset();
  detector_.reset();
  suspect_.reset();
  suspected_.clear();
  deploy_again_ = false;
  if (anew) {
    solved_.reset();
    planner_error_.clear();
    // A pipeline that is no more cannot be slow.
    std::erase_if(notices_, [&](const auto& entry) { return !check_notice(entry.second.notice); });
  }
  return anew;
}

core::Status JobState::check_incarnation(std::uint64_t incarnation) const {
  if (incarnation == registration_.incarnation) return {};
  if (incarnation > registration_.incarnation) {
    // Its rank 0.0.0 is still on its way: the others ask again, as for a job that is not there at all.
    return fail(ErrorCode::kNotFound,
                fmt::format("incarnation {} of job {} is not registered yet; the job is in incarnation {}",
                            incarnation, name_, registration_.incarnation));
  }
  return fail(ErrorCode::kBusy,
              fmt::format("incarnation {} is not that of job {}, which is in incarnation {}", incarnation,
                          name_, registration_.incarnation));
}

core::Status JobState::check_place(const RankId& rank) const {
  const core::Parallel& degrees = registration_.parallel;
  if (rank.dp < degrees.data && rank.pp < registration_.schedule.pipeline() && rank.tp < degrees.tensor)
    return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("there is no rank {} in job {} of {} pipelines x {} ranks x {} GPUs", to_text(rank),
                          name_, degrees.data, registration_.schedule.pipeline(), degrees.tensor));
}

core::Result<RankState*> JobState::find(const RankId& rank, std::uint64_t incarnation) {
  PERSEUS_RETURN_IF_ERROR(check_incarnation(incarnation));
  const auto found = ranks_.find(rank);
  if (found != ranks_.end()) return &found->second;
  return fail(ErrorCode::kNotFound,
              fmt::format("rank {} of job {} is not registered; register it again", to_text(rank), name_));
}

void JobState::advance(RankState& rank, std::uint64_t step, Moment now) {
  rank.last_seen = now;
  rank.step = std::max(rank.step, step);
  if (step < newest_step_) return;
  newest_step_ = step;
  newest_step_at_ = now;
}

std::uint64_t JobState::steps_since_newest(Moment now) const {
  if (!solved_ || solved_->t_min <= Seconds(0)) return 0;
  const Seconds silent = std::clamp(now - newest_step_at_, Seconds(0), settings_.rank_ttl);
  return static_cast<std::uint64_t>(silent / solved_->t_min);
}

core::Result<Applied> JobState::note(const RankId& rank, const Stamp& stamp, Moment now, RankState*& state) {
  PERSEUS_ASSIGN_OR_RETURN(state, find(rank, stamp.incarnation));
  if (stamp.sequence <= state->sequence) return Applied::kRepeated;
  state->sequence = stamp.sequence;
  state->last_seen = now;
  return Applied::kApplied;
}

core::Result<Applied> JobState::hello(const RankHello& hello, Moment now) {
  PERSEUS_RETURN_IF_ERROR(check_incarnation(hello.stamp.incarnation));
  PERSEUS_RETURN_IF_ERROR(check_place(hello.rank));
  if (hello.schedule_sha256 != fence_) {
    return fail(ErrorCode::kBusy,
                fmt::format("rank {} built another order of computations than job {} registered "
                            "(schedule_sha256 {}, registered {})",
                            to_text(hello.rank), name_, hello.schedule_sha256, fence_));
  }
  const auto known = ranks_.find(hello.rank);
  if (known != ranks_.end() && hello.stamp.sequence <= known->second.sequence) return Applied::kRepeated;
  if (!hello.gpu_uuid.empty()) {
    const auto [holder, fresh] = rank_of_gpu_.try_emplace(hello.gpu_uuid, hello.rank);
    const bool taken = !fresh && holder->second != hello.rank && live(ranks_[holder->second], now);
    if (taken) {
      return fail(ErrorCode::kBusy, fmt::format("GPU {} is that of rank {} already",
                                                format::quoted(hello.gpu_uuid), to_text(holder->second)));
    }
    holder->second = hello.rank;
  }
  RankState& rank = ranks_[hello.rank];
  rank.sequence = hello.stamp.sequence;
  rank.gpu_uuid = hello.gpu_uuid;
  rank.clocks = hello.clocks;
  rank.clock_control = hello.clock_control;
  rank.counter_period = hello.counter_period;
  rank.left = false;
  advance(rank, hello.step, now);
  return Applied::kApplied;
}

core::Result<Applied> JobState::renew(const RankId& rank, const Renewal& renewal, Moment now) {
  RankState* state = nullptr;
  PERSEUS_ASSIGN_OR_RETURN(const Applied applied, note(rank, renewal.stamp, now, state));
  if (applied == Applied::kApplied) advance(*state, renewal.step, now);
  return applied;
}

core::Result<Applied> JobState::measure(const RankId& rank, const Measurement& measurement, Moment now) {
  RankState* state = nullptr;
  PERSEUS_ASSIGN_OR_RETURN(const Applied applied, note(rank, measurement.stamp, now, state));
  if (applied == Applied::kRepeated) return applied;
  advance(*state, measurement.step, now);
  // What was measured under an earlier plan says nothing of this one.
  if (!deployment_ || measurement.generation != deployment_->generation) return Applied::kRepeated;
  confirm(rank, *state, measurement.generation);
  state->measured.add(measurement);
  state->throttled = measurement.throttled;
  for (const KindTimes& k : measurement.kinds) {
    if (k.expected <= Seconds(0)) continue;
    RunningTimes& times = state->kinds[{k.kind, k.stage}];
    times.count += k.count;
    times.measured_s += k.count * k.time.value();
    times.expected_s += k.count * k.expected.value();
  }
  if (!deployment_->plans.empty()) detector_.add(rank, measurement);
  return applied;
}

core::Result<Applied> JobState::guard(const RankId& rank, const GuardReport& report, Moment now) {
  RankState* state = nullptr;
  PERSEUS_ASSIGN_OR_RETURN(const Applied applied, note(rank, report.stamp, now, state));
  const bool current =
      deployment_ && !deployment_->plans.empty() && report.generation == deployment_->generation;
  if (applied == Applied::kRepeated || !current || guard_) return Applied::kRepeated;
  if (someone_behind()) {
    deploy_again_ = true;
    return Applied::kRepeated;
  }
  const auto elsewhere = detector_.usual(rank);
  const auto before = suspected_.find(rank.dp);
  const bool again = before != suspected_.end() && now < before->second + settings_.notice_ttl;
  // Once; if that did not help, the plan is wrong all the same.
  if (elsewhere && *elsewhere < 1 + detector_.settings().enter && !again) {
    suspected_.insert_or_assign(rank.dp, now);
    suspect_ = GuardTrip{rank, report};
  } else {
    guard_ = GuardTrip{rank, report};
  }
  return applied;
}

bool JobState::someone_behind() const {
  return deployment_ && std::ranges::any_of(ranks_, [&](const auto& entry) {
           return !entry.second.left && entry.second.confirmed < deployment_->generation;
         });
}

core::Result<Applied> JobState::leave(const RankId& rank, const Stamp& stamp, Moment now) {
  RankState* state = nullptr;
  PERSEUS_ASSIGN_OR_RETURN(const Applied applied, note(rank, stamp, now, state));
  if (applied == Applied::kRepeated) return applied;
  state->left = true;
  unconfirmed_.erase(rank);
  return applied;
}

void JobState::confirm(const RankId& id, RankState& rank, std::uint64_t generation) {
  rank.confirmed = std::max(rank.confirmed, generation);
  if (deployment_ && rank.confirmed >= deployment_->generation) unconfirmed_.erase(id);
}

core::Status JobState::poll(const RankId& rank, std::uint64_t incarnation, std::uint64_t generation,
                            std::uint64_t step, Moment now) {
  PERSEUS_ASSIGN_OR_RETURN(RankState* const state, find(rank, incarnation));
  if (state->left) {
    return fail(ErrorCode::kNotFound,
                fmt::format("rank {} of job {} has left; register it again", to_text(rank), name_));
  }
  advance(*state, step, now);
  confirm(rank, *state, std::min(generation, last_generation_));
  return {};
}

core::Status JobState::check_notice(const StragglerNotice& notice) const {
  if (notice.rank) return check_place(*notice.rank);
  if (notice.pipeline && *notice.pipeline < registration_.parallel.data) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("there is no pipeline {} in job {} of {} pipelines", notice.pipeline.value_or(0),
                          name_, registration_.parallel.data));
}

void JobState::put_notice(const std::string& id, StragglerNotice notice, Moment until) {
  notices_.insert_or_assign(id, ActiveNotice{std::move(notice), until});
}

std::vector<std::string> JobState::expire_notices(Moment now) {
  std::vector<std::string> gone;
  for (const auto& [id, active] : notices_) {
    if (now >= active.until) gone.push_back(id);
  }
  for (const std::string& id : gone) notices_.erase(id);
  return gone;
}

void JobState::set_solved(std::shared_ptr<const Solved> solved) {
  // Planned from new measurements: what the guard complained about is answered.
  if (guard_ && deployment_ && solved->profile_sha256 != deployment_->profile_sha256) guard_.reset();
  if (!solved_ || solved_->profile_sha256 != solved->profile_sha256) detector_.reset();
  solved_ = std::move(solved);
  planner_error_.clear();
}

std::optional<Verdict> JobState::judge(const RankId& rank) {
  if (!deployment_ || rank.dp >= deployment_->plans.size()) return std::nullopt;
  return detector_.judge(rank, std::max(deployment_->plans[rank.dp]->time, deployment_->targets->sync));
}

Targets JobState::wanted(Moment now) const {
  const Seconds t_min = solved_->t_min;
  // How many times T_min each pipeline takes at full clocks.
  std::vector<double> slowdown(registration_.parallel.data, 1);
  for (const auto& [id, active] : notices_) {
    if (now >= active.until) continue;
    const StragglerNotice& n = active.notice;
    const std::uint32_t p = n.rank ? n.rank->dp : *n.pipeline;
    double factor = n.slowdown.value_or(1);
    if (n.rank) factor = time_with_slow_rank(*solved_, n.rank->pp, factor) / t_min;
    if (n.iteration_time) factor = *n.iteration_time / t_min;
    slowdown[p] = std::max(slowdown[p], factor);
  }
  const double slowest = std::ranges::max(slowdown);
  Targets out{{}, slowest * t_min};
  for (const double s : slowdown) {
    // A slow pipeline stretches its own plan by its slowness: planned for T' / s, it ends at T'. The slowest
    // one is planned for T_min.
    const Seconds own = s == slowest ? t_min : out.sync / s;
    out.pipeline.push_back(std::clamp(own, t_min, std::max(t_min, solved_->t_max)));
  }
  return out;
}

bool JobState::deployment_fits() const {
  return deployment_ && !deployment_->plans.empty() && deployment_->incarnation == incarnation() &&
         deployment_->schedule_sha256 == fence_;
}

std::optional<Wish> JobState::wish(Moment now) const {
  const auto baseline = [&](const char* reason) -> std::optional<Wish> {
    const bool nothing =
        !deployment_ || (deployment_->baseline() && deployment_->incarnation == incarnation());
    return nothing ? std::nullopt : std::optional(Wish{reason, std::nullopt, {}, true});
  };
  if (ended_) return baseline("ended");
  // A sweep that is to answer the guard may run; no plan may.
  if (guard_ && (!sweep_ || (deployment_ && !deployment_->plans.empty()))) return baseline("guard");
  if (sweep_) return sweep_wish(*sweep_, now);
  if (!solved_) {
    // A plan for other orders must not be served; until the new frontier is there, baseline.
    return deployment_ && deployment_->schedule_sha256 != fence_ ? baseline("order changed") : std::nullopt;
  }
  const Targets targets = wanted(now);
  const bool slow = targets.sync > solved_->t_min;
  if (!deployment_fits() || deployment_->profile_sha256 != solved_->profile_sha256) {
    return Wish{slow ? "straggler" : "fastest", targets, {}, false};
  }
  if (deploy_again_ && !someone_behind()) return Wish{slow ? "straggler" : "fastest", targets, {}, false};
  const auto change = policy_.decide(*deployment_->targets, targets, now);
  if (!change) return std::nullopt;
  return Wish{!slow ? "recovered" : "straggler", change->targets, {}, change->speed_up};
}

std::optional<Moment> JobState::next_look(Moment now) const {
  std::optional<Moment> next;
  const auto consider = [&](Moment at) {
    if (at > now && (!next || at < *next)) next = at;
  };
  for (const auto& [id, active] : notices_) consider(active.until);
  if (past_batch_) consider(*past_batch_ + settings_.report_grace);
  if (deployment_ && !deployment_->from_step) consider(deployment_->since + settings_.confirm_deadline);
  if (solved_ && deployment_fits()) {
    if (const auto at = policy_.next_look(*deployment_->targets, wanted(now), now)) consider(*at);
  }
  return next;
}

void JobState::deploy(Deployment deployment, bool changed, Moment now) {
  last_generation_ = std::max(last_generation_, deployment.generation);
  deployment.since = now;
  deployment_ = std::move(deployment);
  deploy_again_ = false;
  past_batch_.reset();
  if (sweep_ && sweep_->running()) sweep_->abandon();
  if (sweep_ && !deployment_->windows.empty()) {
    sweep_->begin(deployment_->windows);
    sweep_generation_ = deployment_->generation;
  }
  if (changed) policy_.changed(now);
  unconfirmed_.clear();
  for (auto& [id, rank] : ranks_) {
    rank.measured = {};
    rank.kinds.clear();
    if (live(rank, now) && rank.confirmed < deployment_->generation) unconfirmed_.insert(id);
  }
}

std::optional<std::uint64_t> JobState::commit_due(Moment now) const {
  if (!deployment_ || deployment_->from_step) return std::nullopt;
  const bool late = now >= deployment_->since + settings_.confirm_deadline;
  const bool waiting = std::ranges::any_of(unconfirmed_, [&](const RankId& id) {
    const auto rank = ranks_.find(id);
    return rank != ranks_.end() && live(rank->second, now);
  });
  // After a restart the ranks are not known yet, and a step agreed without them would be none.
  const bool expecting = ranks_.empty() && deployment_->generation > 1;
  if ((waiting || expecting) && !late) return std::nullopt;
  return ranks_.empty() ? 0 : newest_step_ + steps_since_newest(now) + settings_.switch_margin_steps;
}

void JobState::commit(std::uint64_t from_step) {
  deployment_->from_step = from_step;
  unconfirmed_.clear();
}

std::size_t JobState::live_count(Moment now) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(ranks_, [&](const auto& entry) { return live(entry.second, now); }));
}

}  // namespace perseus::server
